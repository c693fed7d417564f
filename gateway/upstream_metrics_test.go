package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/gateway"
	"github.com/meet5/backend/service/metrics"
)

func TestWhatBecomesOfRequestsIsShown(t *testing.T) {
	registry := prometheus.NewRegistry()
	first := newMember("a")
	dead := nowhere(t)
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) {
		d.Metrics = registry
		d.Upstreams.User = gateway.Remote([]*url.URL{elsewhere(t, first), dead}, gateway.RemoteOptions{Clock: d.Clock, Random: seeded()})
		d.Upstreams.Fraud = gateway.Remote([]*url.URL{elsewhere(t, http.HandlerFunc(resets))}, gateway.RemoteOptions{Clock: d.Clock})
	})
	bearer := header("Authorization", h.bearer(uuid.New(), "moderator"))
	for range 10 {
		h.do("GET", "/v1/me", "", bearer)
		h.do("GET", "/v1/moderation/flags", "", bearer)
	}
	rec := httptest.NewRecorder()
	metrics.Handler(registry).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	text := rec.Body.String()
	for _, want := range []string{
		`meet5_gateway_in_flight 0`,
		`meet5_gateway_shed_total{class="batch"} 0`,
		`meet5_gateway_instances{state="sound",upstream="user"} 1`,
		`meet5_gateway_instances{state="unreachable",upstream="user"} 1`,
		`meet5_gateway_instances{state="ejected",upstream="user"} 0`,
		`meet5_gateway_instances{state="draining",upstream="user"} 0`,
		`meet5_gateway_instance_in_flight{instance="` + dead.Host + `",upstream="user"} 0`,
		`meet5_gateway_balance_efficiency{upstream="user"} `,
		`meet5_gateway_ejections_total{reason="failures",upstream="user"} 0`,
		`meet5_gateway_retries_total{outcome="sent",upstream="user"} 0`,
		`meet5_gateway_retry_budget{upstream="user"} 50`,
		`meet5_gateway_breaker_state{state="closed",upstream="user"} 1`,
		`meet5_gateway_breaker_state{state="open",upstream="fraud"} 1`,
		`meet5_gateway_breaker_opened_total{upstream="fraud"} 1`,
		`meet5_gateway_refused_total{by="bulkhead",upstream="fraud"} 0`,
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("%s is missing", want)
		}
	}
	if strings.Contains(text, `meet5_gateway_refused_total{by="breaker",upstream="fraud"} 0`) {
		t.Error("an open breaker refused nothing")
	}
	if !strings.Contains(text, `meet5_gateway_refused_total{by="bulkhead",upstream="projections"} 0`) || strings.Count(text, `upstream="projections"`) != 1 {
		t.Error("of a service in this process it is shown what it refused, and nothing else")
	}
}
