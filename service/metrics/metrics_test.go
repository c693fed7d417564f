package metrics_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/service/metrics"
)

func scrape(r *prometheus.Registry) string {
	w := httptest.NewRecorder()
	metrics.Handler(r).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func TestARegistryShowsTheProcess(t *testing.T) {
	text := scrape(metrics.NewRegistry())
	for _, name := range []string{"go_goroutines ", "process_resident_memory_bytes "} {
		if !strings.Contains(text, "\n"+name) {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestTwoProcessesInOneTestShareNothing(t *testing.T) {
	a, b := metrics.NewRegistry(), metrics.NewRegistry()
	metrics.NewRequests(a, "user").Observe("/v1/me", "GET", 200, time.Millisecond)
	if !strings.Contains(scrape(a), `route="/v1/me"`) || strings.Contains(scrape(b), `route="/v1/me"`) {
		t.Error("a registry shows what another was told")
	}
}

func TestServicesOfOneProcessShareTheHistogram(t *testing.T) {
	r := metrics.NewRegistry()
	metrics.NewRequests(r, "user").Observe("/v1/me", "GET", 200, time.Millisecond)
	metrics.NewRequests(r, "fraud").Observe("", "BREW", 599, time.Millisecond)
	text := scrape(r)
	for _, series := range []string{
		`_count{method="GET",route="/v1/me",service="user",status="2xx"} 1`,
		`_count{method="other",route="none",service="fraud",status="5xx"} 1`,
	} {
		if !strings.Contains(text, "meet5_http_request_duration_seconds"+series) {
			t.Errorf("%s is missing from:\n%s", series, text)
		}
	}
}

func TestRefusalsAreCountedByTheirStatus(t *testing.T) {
	r := metrics.NewRegistry()
	m := metrics.NewRequests(r, "user")
	for _, status := range []int{200, 201, 400, 401, 401, 403, 404, 422, 503, 500, 504} {
		m.Observe("/v1/me", "GET", status, time.Millisecond)
	}
	metrics.NewRequests(r, "fraud").Observe("/v1/me", "GET", 503, time.Millisecond)
	text := scrape(r)
	for _, series := range []string{
		`{service="user",status="401"} 2`, `{service="user",status="429"} 0`, `{service="user",status="503"} 1`,
		`{service="fraud",status="401"} 0`, `{service="fraud",status="429"} 0`, `{service="fraud",status="503"} 1`,
	} {
		if !strings.Contains(text, "meet5_http_refused_total"+series+"\n") {
			t.Errorf("%s is missing from:\n%s", series, text)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	m := metrics.NewRequests(metrics.NewRegistry(), "user")
	b.ReportAllocs()
	for b.Loop() {
		m.Observe("/v1/me", "GET", 200, time.Millisecond)
	}
}
