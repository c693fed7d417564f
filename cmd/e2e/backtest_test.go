package e2e_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/backend"
)

// tried is a backtest as clients see it.
type tried struct {
	ID, State string
	Progress  struct{ Events, Total int }
	Report    struct {
		Events int
		Rules  []struct {
			Rule    string
			Hits    int
			Users   int
			Running struct {
				Newly    int
				NoLonger int `json:"no_longer"`
				Still    int
			} `json:"running_version"`
			Measured struct {
				Against           string
				Bad, Good         int
				Precision, Recall *float64
			}
			Curve  struct{ Points []object }
			Sample []object
		}
	}
}

// try asks for a backtest and waits for its report.
func (c *client) try(body object) (b tried) {
	c.t.Helper()
	a := c.post("/v1/backtests", body).is(http.StatusAccepted).into(&b)
	location := a.header.Get("Location")
	if location != "/v1/backtests/"+b.ID {
		c.t.Errorf("Location: %q", location)
	}
	eventually(c.t, "the backtest", func() (any, bool) {
		c.get(location).is(http.StatusOK).into(&b)
		return b.State, b.State == "done"
	})
	return b
}

func TestAnAnalystTriesARuleBeforeItGoesLive(t *testing.T) {
	bothWays(t, func(t *testing.T, where backend.Where) {
		h := open(t, where)
		joined := time.Now().UTC().Truncate(time.Second).Add(-time.Hour)
		crowd := h.crowd(101, joined.Add(-time.Hour))
		service, mod, analyst := h.with("traffic", "service"), h.with("mod", "moderator"), h.with("analyst", "analyst")
		storm := func(n int) uuid.UUID {
			actor := h.crowd(1, joined)[0]
			var lines []object
			for i := range n {
				at := joined.Add(time.Duration(i+1) * time.Second)
				lines = append(lines, object{"type": "visit", "actor": actor, "target": crowd[i], "occurred_at": at},
					object{"type": "like", "actor": actor, "target": crowd[i], "occurred_at": at})
			}
			service.batch(lines)
			return actor
		}
		guilty, innocent, spared := storm(101), storm(100), storm(60)
		flags := func() list { return mod.list("/v1/moderation/flags?rule=meet5-first-minutes") }
		eventually(t, "two flags", func() (any, bool) { l := flags(); return l, len(l.Items) == 2 })
		for _, f := range flags().Items {
			decision := map[any]string{guilty.String(): "confirm", innocent.String(): "dismiss"}[f["user"]]
			mod.post("/v1/moderation/flags/"+f["id"].(string)+"/decision", object{"decision": decision}).is(http.StatusOK)
		}

		rule := object{
			"id": "meet5-first-minutes", "title": "Half as many", "events": []string{"visit", "like"}, "window": object{"since_account_creation": "10m"},
			"aggregate": "paired_distinct", "threshold": 50, "score": 90,
		}
		b := analyst.try(object{"rules": []any{rule, "like-storm"}, "curve": true, "thresholds": []int{40, 80, 101}})
		r := b.Report.Rules[0]
		if b.Report.Events != 2*261 || r.Hits != 3 || r.Users != 3 || r.Running.Newly != 1 || r.Running.Still != 2 || r.Running.NoLonger != 0 {
			t.Errorf("%+v", b)
		}
		if m := r.Measured; m.Against != "decisions" || m.Bad != 1 || m.Good != 1 || m.Precision == nil || *m.Precision != 0.5 || *m.Recall != 1 {
			t.Errorf("%+v", m)
		}
		if p := r.Curve.Points; len(p) != 3 || p[0]["users"] != 3.0 || p[1]["users"] != 2.0 || p[2]["users"] != 1.0 {
			t.Errorf("%v", p)
		}
		// A user of the sample opens.
		for _, s := range r.Sample {
			if s["user"] == spared.String() {
				mod.get(s["path"].(string)).is(http.StatusOK)
				if s["evidence_count"] != 100.0 {
					t.Errorf("%v", s)
				}
			}
		}
		if len(r.Sample) != 3 {
			t.Errorf("%d users to open", len(r.Sample))
		}
		if l := flags(); len(l.Items) != 2 {
			t.Errorf("the backtest has raised flags: %v", l)
		}
		if l := mod.list("/v1/backtests"); len(l.Items) != 1 || l.Items[0]["id"] != b.ID || l.Items[0]["report"] != nil {
			t.Errorf("%v", l)
		}

		analyst.send(http.MethodDelete, "/v1/backtests/"+b.ID, "", nil).is(http.StatusNoContent)
		analyst.get("/v1/backtests/" + b.ID).is(http.StatusNotFound)
		faulty := analyst.send(http.MethodPost, "/v1/backtests", "application/yaml", strings.NewReader("id: a\nthreshold: many\n")).is(http.StatusUnprocessableEntity)
		if !strings.Contains(string(faulty.body), "line 2, column 12") {
			t.Errorf("%s", faulty.body)
		}
		h.register("member").post("/v1/backtests", object{}).is(http.StatusForbidden)
	})
}
