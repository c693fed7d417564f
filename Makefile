# `make` alone lists the targets. Everything runs from a fresh clone: what a
# target needs beyond Go, it builds into a cache folder outside the tree.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

MODULES := activity cmd events fraud gateway migrations projections service user
SERVICES := activity fraud gateway projections user

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/meet5/tools
GOLANGCI_LINT_VERSION := v2.15.0
GOVULNCHECK_VERSION := v1.8.0
OAPI_CODEGEN_VERSION := v2.8.2
GOLANGCI_LINT := $(CACHE)/golangci-lint-$(GOLANGCI_LINT_VERSION)
GOVULNCHECK := $(CACHE)/govulncheck-$(GOVULNCHECK_VERSION)
OAPI_CODEGEN := $(CACHE)/oapi-codegen-$(OAPI_CODEGEN_VERSION)
PROMTOOL := $(or $(shell command -v promtool),$(CACHE)/promtool)

# The race detector needs a C compiler; Go says CGO_ENABLED=0 where there is none.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)
# For example TESTFLAGS='-run TestAppend -v'.
TESTFLAGS ?=
BENCH ?= .
BENCHFLAGS ?=
CHAOSFLAGS ?=
FUZZTIME ?= 30s

# $(call each,CMD): CMD in every module, all of them even when one fails.
define each
failed=''; \
for module in $(MODULES); do \
	if [[ -z $$(find "$$module" -name '*.go' -print -quit) ]]; then echo "== $$module: no Go files"; continue; fi; \
	echo "== $$module"; \
	(cd "$$module" && $(1)) || failed+=" $$module"; \
done; \
if [[ -n $$failed ]]; then echo "$@ failed in:$$failed" >&2; exit 1; fi
endef

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/meet5, and every service's own program
	@mkdir -p bin
	go build -o bin/ ./cmd/meet5 $(foreach service,$(SERVICES),./$(service)/cmd/$(service))

.PHONY: test
test: ## every test with the race detector, on real services that it starts and stops
	@deploy/testing/services run -- $(MAKE) --no-print-directory test-modules

# On the services that AMQP_URL, MONGODB_URI and VALKEY_URL name.
.PHONY: test-modules
test-modules:
	@if [[ -z "$(RACE)" ]]; then \
		echo 'NO RACE DETECTOR: there is no C compiler; install gcc to have it.' >&2; \
		if [[ -n $${CI-} ]]; then exit 1; fi; \
	fi
	@$(call each,go test $(RACE) -timeout 30m $(TESTFLAGS) ./...)
	@if [[ -z $${AMQP_URL-} || -z $${MONGODB_URI-} ]]; then \
		echo 'SKIPPED: every test that needs RabbitMQ or MongoDB; see the top of this output for how to get them.' >&2; \
	fi
	@if [[ -z $${VALKEY_URL-} ]]; then \
		echo 'SKIPPED: every test that needs Valkey; VALKEY_URL names one.' >&2; \
	fi

.PHONY: test-gowork-off
test-gowork-off: ## build and vet each module by itself, without the workspace
	@$(call each,GOWORK=off go build -o /dev/null ./... && GOWORK=off go vet ./...)

.PHONY: generate
generate: $(OAPI_CODEGEN) ## gateway/client, the Go client, from gateway/openapi.yaml
	@cd gateway/client && $(OAPI_CODEGEN) --config generate.yaml -o client.gen.go ../openapi.yaml

.PHONY: lint lint-format lint-generated lint-vet lint-golangci lint-vulnerabilities lint-shell
lint: lint-format lint-generated lint-vet lint-golangci lint-vulnerabilities lint-shell ## gofmt, generated code, go vet, golangci-lint, govulncheck (with -k: all, even when one fails)

lint-format:
	@unformatted=$$(gofmt -s -l $(MODULES)); \
	if [[ -n $$unformatted ]]; then printf 'not as gofmt -s would have it (make fmt):\n%s\n' "$$unformatted" >&2; exit 1; fi

lint-generated: $(OAPI_CODEGEN)
	@fresh=$$(mktemp); \
	trap 'rm -f "$$fresh"' EXIT; \
	(cd gateway/client && $(OAPI_CODEGEN) --config generate.yaml -o "$$fresh" ../openapi.yaml); \
	if ! cmp -s "$$fresh" gateway/client/client.gen.go; then echo 'gateway/client is not what gateway/openapi.yaml says (make generate)' >&2; exit 1; fi

lint-vet:
	@$(call each,go vet ./...)

lint-golangci: $(GOLANGCI_LINT)
	@$(call each,$(GOLANGCI_LINT) run --allow-parallel-runners --config "$(CURDIR)/.golangci.yml" ./...)

lint-vulnerabilities: $(GOVULNCHECK)
	@$(call each,$(vulnerabilities))

lint-shell:
	@if command -v shellcheck >/dev/null; then shellcheck deploy/testing/services .ci/run; \
	else echo 'shellcheck is not installed: the shell scripts were not checked' >&2; fi

# govulncheck exits with 3 when it finds one. The database of vulnerabilities is
# on the network; not to reach it is no fault of the code.
define vulnerabilities
{ code=0; report=$$($(GOVULNCHECK) ./... 2>&1) || code=$$?; \
printf '%s\n' "$$report"; \
if ((code == 1)) && [[ $$report == *"fetching vulnerabilities"* ]]; then \
	echo 'NOT CHECKED FOR KNOWN VULNERABILITIES: the vulnerability database cannot be reached from here.' >&2; \
	code=0; \
fi; \
exit $$code; }
endef

.PHONY: alerts
alerts: ## try the alerts for Prometheus on made-up series, and look for their metrics
	@# -count=1: no cache of Go's knows of a file outside the module.
	@go test -count=1 -run '^TestEveryAlert' ./cmd/e2e
	@if [[ ! -x "$(PROMTOOL)" ]] && ! $(MAKE) --no-print-directory "$(PROMTOOL)"; then \
		echo 'THE ALERTS WERE NOT TRIED: there is no promtool, which Debian and others have in the package prometheus.' >&2; \
		if [[ -n $${CI-} ]]; then exit 1; else exit 0; fi; \
	fi; \
	"$(PROMTOOL)" check rules deploy/prometheus/alerts.yml; \
	"$(PROMTOOL)" test rules deploy/prometheus/alerts_test.yml

.PHONY: bench
bench: ## every benchmark, on real services; BENCH=regexp chooses
	@deploy/testing/services run -- $(MAKE) --no-print-directory bench-modules

.PHONY: bench-modules
bench-modules:
	@$(call each,go test -run '^$$' -bench '$(BENCH)' -benchmem $(TESTFLAGS) ./...)

# For example BENCHFLAGS='--all --rounds 3' or BENCHFLAGS=append.
.PHONY: ratios
ratios: ## meet5 bench on real services: speed beside its limit, as a table; BENCHFLAGS
	@go build -o bin/ ./cmd/meet5
	@deploy/testing/services run -- bash -c 'bin/meet5 bench --mongo "$$MONGODB_URI" --amqp "$$AMQP_URL" --markdown $(BENCHFLAGS)'

# For example CHAOSFLAGS='--seeds 7 kill-writer pause-database'.
.PHONY: chaos
chaos: build ## every fault on real services of its own, as a table; CHAOSFLAGS
	@bin/meet5 chaos --bin bin $(CHAOSFLAGS)

.PHONY: fuzz
fuzz: ## every fuzz test for FUZZTIME (30s) each
	@{ grep -rHoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' $(MODULES) || true; } | \
	while IFS=: read -r file declaration; do \
		echo "== $${declaration#func } in $$(dirname "$$file")"; \
		go test -run '^$$' -fuzz "^$${declaration#func }$$" -fuzztime $(FUZZTIME) "./$$(dirname "$$file")" </dev/null; \
	done

.PHONY: services-up
services-up: ## start real services to keep: eval "$(make -s services-up)"
	@deploy/testing/services up

.PHONY: services-down
services-down: ## stop the services that MEET5_TEST_RUN names
	@deploy/testing/services down

.PHONY: fmt
fmt: ## format all Go code
	gofmt -s -w $(MODULES)

.PHONY: clean
clean: ## remove what was built here
	rm -rf bin
	find $(MODULES) -name '*.test' -type f -delete
	find $(MODULES) -name '*.prof' -type f -delete

# A tool is built apart from this workspace, and appears only whole.
define install
@mkdir -p $(CACHE)
tmp=$$(mktemp -d $(CACHE)/building.XXXXXX); \
trap 'rm -rf "$$tmp"' EXIT; \
(cd "$$tmp" && GOFLAGS= GOWORK=off GOBIN=$$tmp go install $(1)); \
mv "$$tmp/$(2)" $@
endef

$(GOLANGCI_LINT):
	$(call install,github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION),golangci-lint)

$(GOVULNCHECK):
	$(call install,golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION),govulncheck)

$(OAPI_CODEGEN):
	$(call install,github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@$(OAPI_CODEGEN_VERSION),oapi-codegen)

# Out of Debian's package: to build it takes longer than all the tests.
$(CACHE)/promtool:
	@mkdir -p $(CACHE)
	@tmp=$$(mktemp -d $(CACHE)/building.XXXXXX); \
	trap 'rm -rf "$$tmp"' EXIT; \
	cd "$$tmp"; \
	command -v apt-get dpkg-deb >/dev/null; \
	apt-get -q -o APT::Sandbox::User=root download prometheus || \
		{ apt-get -q -o DPkg::Lock::Timeout=300 update && apt-get -q -o APT::Sandbox::User=root download prometheus; }; \
	dpkg-deb -x prometheus_*.deb fs; \
	mv fs/usr/bin/promtool $@
