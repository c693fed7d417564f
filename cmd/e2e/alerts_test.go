package e2e_test

import (
	"bytes"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/meet5/backend/cmd/backend"
)

// alert is an alert of deploy/prometheus/alerts.yml.
type alert struct {
	Alert       string
	Expr        string
	For         string
	Labels      struct{ Severity string }
	Annotations struct{ Summary, Runbook string }
}

func readAlerts(t *testing.T) (all []alert) {
	t.Helper()
	text, err := os.ReadFile("../../deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []alert
		}
	}
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("there are no alerts")
	}
	return all
}

var (
	// ourMetric finds the names in an expression and its selectors, if it has any.
	ourMetric = regexp.MustCompile(`\b(meet5_[a-z0-9_]+)(?:\{([^}]*)\})?`)
	matcher   = regexp.MustCompile(`([a-z_]+)\s*=~?\s*"`)
	grouping  = regexp.MustCompile(`\bby \(([a-z_, ]*)\)`)
	shown     = regexp.MustCompile(`\$labels\.([a-z_]+)`)
	sample    = regexp.MustCompile(`(?m)^([a-z_][a-z0-9_]*)(?:\{(.*)\})? \S+$`)
	label     = regexp.MustCompile(`([a-z_]+)="(?:[^"\\]|\\.)*"`)
)

// scraped is the labels of each metric that /metrics shows.
func (c *client) scraped() map[string][]string {
	c.t.Helper()
	body := c.get("/metrics").is(http.StatusOK).body
	all := make(map[string][]string)
	for _, s := range sample.FindAllSubmatch(bytes.TrimSpace(body), -1) {
		var names []string
		for _, l := range label.FindAllSubmatch(s[2], -1) {
			names = append(names, string(l[1]))
		}
		all[string(s[1])] = names
	}
	return all
}

// TestEveryAlertIsOnMetricsThatAreThere keeps an alert from falling silent for good
// because a metric, or a label of it, was renamed.
func TestEveryAlertIsOnMetricsThatAreThere(t *testing.T) {
	h := openWith(t, backend.Config{Where: backend.Where{Data: t.TempDir()}, MarkQuota: 1})
	mod, service := h.with("mod", "moderator"), h.with("traffic", "service")

	// Some show only once they have counted: two users are flagged and to be marked,
	// one more than the day's quota.
	const path = "/v1/moderation/rules/some-likes"
	mod.send("PUT", path+"?why=a+test", "application/yaml", strings.NewReader(someLikes+"effect: flag_and_mark\n")).is(http.StatusCreated)
	for _, mode := range []string{"shadow", "live"} {
		mod.post(path+"/mode", object{"mode": mode, "why": "a test", "force": true}).is(http.StatusOK)
	}
	now := time.Now().UTC().Truncate(time.Second)
	crowd := h.crowd(5, now.Add(-48*time.Hour))
	for _, actor := range crowd[:2] {
		for i := range 3 {
			service.post("/v1/activities", object{"type": "like", "actor": actor, "target": crowd[4-i], "occurred_at": now.Add(time.Duration(i-10) * time.Second)}).is(http.StatusCreated)
		}
	}
	var metrics map[string][]string
	eventually(t, "a mark is withheld", func() (any, bool) {
		metrics = mod.scraped()
		_, ok := metrics["meet5_fraud_marks_withheld_total"]
		return slices.Sorted(maps.Keys(metrics)), ok
	})

	for _, a := range readAlerts(t) {
		names := ourMetric.FindAllStringSubmatch(a.Expr, -1)
		if len(names) == 0 || a.Annotations.Summary == "" || a.Annotations.Runbook == "" || a.Labels.Severity == "" {
			t.Errorf("%s: no metric of ours, summary, runbook or severity: %+v", a.Alert, a)
		}
		var kept []string
		for _, by := range grouping.FindAllStringSubmatch(a.Expr, -1) {
			kept = append(kept, strings.Split(by[1], ", ")...)
		}
		for _, m := range names {
			has, ok := metrics[m[1]]
			if !ok {
				t.Errorf("%s: nobody exports %s", a.Alert, m[1])
				continue
			}
			wanted := slices.Clone(kept)
			for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
				wanted = append(wanted, l[1])
			}
			for _, l := range wanted {
				if !slices.Contains(has, l) {
					t.Errorf("%s: %s has no label %s, but %v", a.Alert, m[1], l, has)
				}
			}
		}
		for _, l := range shown.FindAllStringSubmatch(a.Annotations.Summary+a.Annotations.Runbook, -1) {
			if !slices.Contains(kept, l[1]) {
				t.Errorf("%s: its words show the label %s, which it does not keep", a.Alert, l[1])
			}
		}
	}
}
