package fraud_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/backtest"
	"github.com/meet5/backend/fraud/labels"
	"github.com/meet5/backend/fraud/queue"
	"github.com/meet5/backend/fraud/rule"
)

var analyst = uuid.UUID{0x0d, 2}

// tested is a backtest in an answer.
type tested struct {
	ID          uuid.UUID       `json:"id"`
	State       string          `json:"state"`
	Rules       []queue.Tried   `json:"rules"`
	Labels      string          `json:"labels"`
	RequestedAt string          `json:"requested_at"`
	RequestedBy uuid.UUID       `json:"requested_by"`
	StartedAt   string          `json:"started_at"`
	FinishedAt  string          `json:"finished_at"`
	Before      *int            `json:"before"`
	Error       string          `json:"error"`
	Report      backtest.Report `json:"report"`
	Progress    struct {
		Events, Total int
		Rate          *float64
		ETA           *float64 `json:"eta_seconds"`
	} `json:"progress"`
}

// String leaves out the report.
func (b tested) String() string {
	return fmt.Sprintf("backtest %s: %s %q, %d of %d events, %d rules", b.ID, b.State, b.Error, b.Progress.Events, b.Progress.Total, len(b.Report.Rules))
}

// request asks for a backtest.
func (r *running) request(body string) tested {
	r.Helper()
	a := r.ask("POST", "/v1/backtests", body, analyst, "analyst").want(r, http.StatusAccepted)
	var b tested
	a.into(r, &b)
	if got := a.header.Get("Location"); got != "/v1/backtests/"+b.ID.String() {
		r.Errorf("Location: %s", got)
	}
	return b
}

func (r *running) backtest(id uuid.UUID) (b tested) {
	r.Helper()
	r.ask("GET", "/v1/backtests/"+id.String(), "", analyst, "analyst").want(r, http.StatusOK).into(r, &b)
	return b
}

// await waits until a backtest has come to a state.
func (r *running) await(id uuid.UUID, state queue.State) tested {
	r.Helper()
	for deadline := time.Now().Add(waitLimit); ; {
		b := r.backtest(id)
		switch {
		case b.State == string(state):
			return b
		case queue.State(b.State).Ended() || time.Now().After(deadline):
			r.Fatalf("the backtest is %v, want it %s", b, state)
		}
	}
}

func (r *running) withdraw(id uuid.UUID) answer {
	r.Helper()
	return r.ask("DELETE", "/v1/backtests/"+id.String(), "", moderator, "moderator")
}

// asJSON is a rule in a body.
func asJSON(t testing.TB, r rule.Rule) string {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// costly is rules that may not run together.
func costly(t testing.TB) string {
	t.Helper()
	var rules []string
	for n := range 60 {
		rules = append(rules, asJSON(t, likesRule(fmt.Sprintf("costly-%d", n), rule.MaxThreshold, 1)))
	}
	return strings.Join(rules, ",")
}

// gate is an activity log that can be shut, so that what reads it waits.
type gate struct {
	log.Reader
	mu   sync.Mutex
	shut chan struct{} // closed when it opens; nil if it is open
}

func (g *gate) close() (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	shut := make(chan struct{})
	g.shut = shut
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.shut = nil
		close(shut)
	})
}

func (g *gate) Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	return func(yield func(events.Commit, error) bool) {
		g.mu.Lock()
		shut := g.shut
		g.mu.Unlock()
		if shut != nil {
			select {
			case <-shut:
			case <-ctx.Done():
				yield(events.Commit{}, ctx.Err())
				return
			}
		}
		for c, err := range g.Reader.Read(ctx, partition, after) {
			if !yield(c, err) {
				return
			}
		}
	}
}

// withHistory is a service with a rule that has flagged the users 1 to 4, of whom 1
// is confirmed and 2 dismissed; of 3 and 5 something bad is known from elsewhere.
func withHistory(t *testing.T) (*running, *gate) {
	t.Helper()
	w := newWorld(t)
	g := &gate{Reader: w.activity}
	w.reader = g
	s := w.run(likesRule("three-likes", 3, 40), likesRule("nine-likes", 9, 80))
	for n := 1; n <= 6; n++ {
		w.post(likes(user(n), map[bool]int{true: 3 + 2*n, false: 2}[n <= 4], start.Add(time.Duration(n)*time.Minute))...)
	}
	if err := w.side.Put(t.Context(), []labels.Label{
		{User: user(3), At: start, Label: "banned"}, {User: user(5), At: start, Label: "banned"},
	}); err != nil {
		t.Fatal(err)
	}
	s.catchUp()
	for _, f := range must1(s.flags("?rule=three-likes")) {
		switch f.User {
		case user(1):
			s.ask("POST", "/v1/moderation/flags/"+f.ID.String()+"/decision", `{"decision":"confirm"}`, moderator, "moderator").want(t, http.StatusOK)
		case user(2):
			s.ask("POST", "/v1/moderation/flags/"+f.ID.String()+"/decision", `{"decision":"dismiss"}`, moderator, "moderator").want(t, http.StatusOK)
		}
	}
	return s, g
}

func must1[T, U any](v T, _ U) T { return v }

func TestABacktestIsDoneAndReported(t *testing.T) {
	s, _ := withHistory(t)
	tried := likesRule("three-likes", 6, 40)
	tried.Mode = rule.Draft
	b := s.request(`{"rule": ` + asJSON(t, tried) + `, "labels": "decisions"}`)
	if b.RequestedBy != analyst || b.RequestedAt != "2026-03-01T12:00:00.123456Z" || len(b.Rules) != 1 || b.Rules[0].ID != "three-likes" || b.Rules[0].Version != tried.Version() {
		t.Errorf("asked for: %v", b)
	}
	b = s.await(b.ID, queue.Done)
	if len(b.Report.Rules) != 1 || b.FinishedAt == "" || b.Progress.Events != b.Progress.Total || b.Progress.Total != 36 {
		t.Fatalf("%v", b)
	}
	// 5, 7, 9 and 11 likes, and 2 of each other.
	r := b.Report.Rules[0]
	if r.Events != 36 || r.Hits != 3 || r.Users != 3 {
		t.Errorf("%d events, %d hits, %d users", r.Events, r.Hits, r.Users)
	}
	if v := r.Running; v == nil || v.Version == r.Version || v.Mode != rule.Live || v.Users != 4 || v.Newly != 0 || v.NoLonger != 1 || v.Still != 3 ||
		len(v.NoLongerUsers) != 1 || v.NoLongerUsers[0] != user(1) {
		t.Errorf("against the version that runs: %+v", v)
	}
	// The flag of user 2 was dismissed.
	if c := r.OnRecord; c == nil || c.Newly != 1 || c.NewlyUsers[0] != user(2) || c.NoLonger != 1 || c.NoLongerUsers[0] != user(1) || c.Still != 2 {
		t.Errorf("against the flags on record: %+v", c)
	}
	if m := r.Measured; m == nil || m.Against != backtest.Decisions || m.Bad != 1 || m.Good != 1 || m.Unknown != 4 || m.HitUnknown != 2 ||
		*m.Precision != 0 || *m.Recall != 0 {
		t.Errorf("against decisions: %+v", m)
	}
	if len(r.Sample) != 3 || r.Sample[0].Path != "/v1/moderation/users/"+r.Sample[0].User.String() || r.Sample[0].EvidenceCount != 6 || len(r.Sample[0].Evidence) != 6 {
		t.Errorf("sample: %+v", r.Sample)
	}
	s.catchUp()
	if items := must1(s.flags("?rule=three-likes")); len(items) != 4 {
		t.Errorf("the backtest has raised flags: %+v", items)
	}
}

func TestWhatABacktestIsMeasuredAgainst(t *testing.T) {
	s, _ := withHistory(t)
	for against, want := range map[string]backtest.Measure{
		"decisions": {Against: backtest.Decisions, Bad: 1, Good: 1, Unknown: 4, HitBad: 1, HitGood: 1, HitUnknown: 2},
		"imported":  {Against: backtest.Imported, Bad: 2, Good: 4, HitBad: 1, HitGood: 3},
		"both":      {Against: backtest.Both, Bad: 3, Good: 3, HitBad: 2, HitGood: 2},
	} {
		b := s.request(`{"rules": ["three-likes"], "labels": "` + against + `"}`)
		m := s.await(b.ID, queue.Done).Report.Rules[0].Measured
		if m == nil {
			t.Fatalf("%s: nothing is measured", against)
		}
		if precision := float64(want.HitBad) / float64(want.HitBad+want.HitGood); *m.Precision != precision {
			t.Errorf("%s: precision %v, want %v", against, *m.Precision, precision)
		}
		m.Precision, m.Recall = nil, nil
		if *m != want {
			t.Errorf("%s: %+v, want %+v", against, *m, want)
		}
	}
	b := s.request(`{"labels": "none"}`)
	if r := s.await(b.ID, queue.Done).Report; len(r.Rules) != 2 || r.Rules[0].Measured != nil || r.Together.Measured != nil {
		t.Error("something is measured against nothing")
	}
}

func TestACurveIsMadeIfAskedFor(t *testing.T) {
	s, _ := withHistory(t)
	b := s.await(s.request(`{"rules": ["three-likes", "nine-likes"], "labels": "imported", "curve": true, "thresholds": [2, 6, 10]}`).ID, queue.Done)
	c := b.Report.Rules[0].Curve
	if c == nil || len(c.Points) != 3 || c.Points[0].Users != 6 || c.Points[1].Users != 3 || c.Points[2].Users != 1 {
		t.Fatalf("%+v", c)
	}
	// Of the two bad users one comes up to 6, not to 10; of the four good ones two
	// and one: the corners are (0, 0), (1/4, 0), (2/4, 1/2), (1, 1).
	if want := 0.25*0.25 + 0.5*0.75; *c.AUC != want {
		t.Errorf("AUC %v, want %v", *c.AUC, want)
	}
	if h := b.Report.Together.Highest; h == nil || len(h.Points) != 2 || h.Points[0].Score != 40 || h.Points[0].Users != 4 || h.Points[1].Score != 80 || h.Points[1].Users != 2 {
		t.Errorf("together: %+v", h)
	}
	if b.Progress.Total != 3*36 {
		t.Errorf("progress: %+v", b.Progress)
	}
	if p := s.await(s.request(`{"rules": ["three-likes"]}`).ID, queue.Done); p.Report.Rules[0].Curve != nil || p.Report.Together.Highest != nil {
		t.Error("there is a curve that nobody asked for")
	}
}

func TestWhatMayBeAskedFor(t *testing.T) {
	s, _ := withHistory(t)
	whole := asJSON(t, likesRule("other", 3, 40))
	yaml := "id: a\ntitle: A\nevents: [like]\nwindow: {sliding: 1h}\naggregate: count\nthreshold: 2\nscore: 1\n"
	for body, want := range map[string]string{
		`{}`: "nine-likes three-likes",
		`{"rules": ["three-likes", ` + whole + `]}`:                                                "three-likes other",
		`{"rule": "nine-likes", "since": "2026-03-01T12:00:00Z", "until": "2026-03-01T12:02:00Z"}`: "nine-likes",
	} {
		var got []string
		for _, r := range s.request(body).Rules {
			got = append(got, r.ID)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", body, got, want)
		}
	}
	a := s.askWith("POST", "/v1/backtests", yaml+"---\n"+strings.Replace(yaml, "id: a", "id: b", 1), map[string]string{"Content-Type": "application/yaml"}, analyst, "analyst")
	var b tested
	a.want(t, http.StatusAccepted).into(t, &b)
	if len(b.Rules) != 2 || b.Rules[1].ID != "b" {
		t.Errorf("YAML: %v", b)
	}

	type fault struct{ Field, Message string }
	for _, c := range []struct {
		name, mediaType, body string
		status                int
		field, message        string
	}{
		{"a faulty rule", "", "{\n \"rules\": [\"three-likes\", {\"id\": \"x\",\n  \"threshold\": 0}]}", 422, "rules[1].threshold", "line 3, column 16: must be from 1 to 10000, not 0"},
		{"a fault in the rule's first line", "", `{"rule": {"id": "X"}}`, 422, "rule.id", "line 1, column 17: must be lower-case"},
		{"an unknown id", "", `{"rules": ["no-such-rule"]}`, 422, "rules[0]", "no rule with this id"},
		{"one id twice", "", `{"rules": ["three-likes", ` + asJSON(t, likesRule("three-likes", 5, 1)) + `]}`, 422, "rules[1]", "second rule"},
		{"both", "", `{"rule": "three-likes", "rules": []}`, 422, "rule", "keep one"},
		{"none", "", `{"rules": []}`, 422, "rules", "leave it out"},
		{"a period that ends before it begins", "", `{"since": "2026-03-02T12:00:00Z", "until": "2026-03-01T12:00:00Z"}`, 422, "until", "later than since"},
		{"labels", "", `{"labels": "guesses"}`, 422, "labels", "decisions, imported, both, none"},
		{"a large sample", "", `{"sample": 101}`, 422, "sample", "from 0 to 100"},
		{"thresholds that descend", "", `{"curve": true, "thresholds": [5, 3]}`, 422, "thresholds", "ascend"},
		{"thresholds without a curve", "", `{"thresholds": [3, 5]}`, 422, "thresholds", "curve"},
		{"an unknown field", "", `{"window": 3}`, 422, "window", "not a known field"},
		{"too many", "", `{"rules": [` + strings.Repeat(`"a",`, 100) + `"a"]}`, 422, "rules", "at most 100"},
		{"rules that cost too much", "", `{"rules": [` + costly(t) + `]}`, 422, "rules", "lower thresholds"},
		{"faulty YAML", "application/yaml", "id: a\nthreshold: many\n", 422, "threshold", "line 2, column 12: must be a whole number"},
		{"no rule in YAML", "application/yaml", "# nothing\n", 422, "", "there is no rule in it"},
		{"two of one id in YAML", "application/yaml", yaml + "---\n" + yaml, 422, "id", "two rules"},
		{"another type", "text/plain", "x", 415, "", ""},
		{"no JSON", "", `{`, 400, "", ""},
	} {
		header := map[string]string{}
		if c.mediaType != "" {
			header["Content-Type"] = c.mediaType
		}
		a := s.askWith("POST", "/v1/backtests", c.body, header, analyst, "analyst").want(t, c.status)
		var p struct{ Errors []fault }
		a.into(t, &p)
		found := c.message == ""
		for _, f := range p.Errors {
			found = found || f.Field == c.field && strings.Contains(f.Message, c.message)
		}
		if !found {
			t.Errorf("%s: %s", c.name, a.body)
		}
	}
}

func TestWhoMayTryRules(t *testing.T) {
	s, _ := withHistory(t)
	b := s.request(`{"rules": ["three-likes"]}`)
	for _, path := range []string{"POST /v1/backtests", "GET /v1/backtests", "GET /v1/backtests/" + b.ID.String(), "DELETE /v1/backtests/" + b.ID.String()} {
		method, path, _ := strings.Cut(path, " ")
		s.ask(method, path, "", user(1), "service").want(t, http.StatusForbidden)
	}
	s.ask("GET", "/v1/backtests/"+b.ID.String(), "", moderator, "moderator").want(t, http.StatusOK)
	s.ask("GET", "/v1/backtests/"+uuid.NewString(), "", moderator, "moderator").want(t, http.StatusNotFound)
	flag := must1(s.flags(""))[0]
	s.ask("GET", "/v1/backtests/"+flag.ID.String(), "", moderator, "moderator").want(t, http.StatusNotFound)
	s.ask("GET", "/v1/backtests/x", "", moderator, "moderator").want(t, http.StatusUnprocessableEntity)
}

func TestOneRunsAndTheOthersWaitUpToABound(t *testing.T) {
	s, g := withHistory(t)
	open := g.close()
	defer open()
	first := s.request(`{"rules": ["three-likes"]}`)
	s.await(first.ID, queue.Running)
	var waiting []tested
	for n := range queue.MaxWaiting {
		b := s.request(`{"rules": ["three-likes"]}`)
		if b.State != "queued" || b.Before == nil || *b.Before != n {
			t.Fatalf("%v, want it queued behind %d", b, n)
		}
		waiting = append(waiting, b)
	}
	a := s.ask("POST", "/v1/backtests", `{"rules": ["three-likes"]}`, analyst, "analyst").want(t, http.StatusServiceUnavailable)
	if a.header.Get("Retry-After") == "" || !strings.Contains(string(a.body), "16 backtests wait") {
		t.Errorf("%s %s", a.header, a.body)
	}
	s.withdraw(waiting[0].ID).want(t, http.StatusNoContent)
	if b := s.backtest(waiting[0].ID); b.State != "cancelled" || b.FinishedAt == "" {
		t.Errorf("a queued one that was cancelled: %v", b)
	}
	waiting = append(waiting[1:], s.request(`{"rules": ["three-likes"]}`))

	var page struct {
		Items []tested
		Next  string
	}
	path, seen := "/v1/backtests?limit=7", []uuid.UUID{}
	for {
		s.ask("GET", path, "", analyst, "analyst").want(t, http.StatusOK).into(t, &page)
		for _, b := range page.Items {
			seen = append(seen, b.ID)
		}
		if page.Next == "" {
			break
		}
		path, page.Next = "/v1/backtests?limit=7&cursor="+page.Next, ""
	}
	if len(seen) != 18 || seen[0] != waiting[len(waiting)-1].ID || seen[17] != first.ID {
		t.Errorf("%d are listed: %v", len(seen), seen)
	}

	open()
	for _, b := range append(waiting, first) {
		if got := s.await(b.ID, queue.Done); got.Report.Rules[0].Users != 4 {
			t.Errorf("%v", got)
		}
	}
}

func TestARunningBacktestEndsWhenItIsCancelled(t *testing.T) {
	s, g := withHistory(t)
	open := g.close()
	defer open()
	b := s.request(`{"rules": ["three-likes"], "curve": true}`)
	s.await(b.ID, queue.Running)
	next := s.request(`{"rules": ["nine-likes"]}`)
	s.withdraw(b.ID).want(t, http.StatusAccepted)
	s.await(next.ID, queue.Running) // the instance is free again
	if got := s.backtest(b.ID); got.State != "cancelled" || got.FinishedAt == "" || len(got.Report.Rules) != 0 {
		t.Errorf("%v", got)
	}
	open()
	s.await(next.ID, queue.Done)
	s.withdraw(b.ID).want(t, http.StatusNoContent)
	s.ask("GET", "/v1/backtests/"+b.ID.String(), "", analyst, "analyst").want(t, http.StatusNotFound)
	s.withdraw(b.ID).want(t, http.StatusNotFound)
}

func TestABacktestSurvivesTheEndOfItsInstance(t *testing.T) {
	s, g := withHistory(t)
	open := g.close()
	defer open()
	b := s.request(`{"rules": ["three-likes"]}`)
	s.await(b.ID, queue.Running)
	s.stop() // it gives it back
	open()
	other := s.world.run(likesRule("three-likes", 3, 40), likesRule("nine-likes", 9, 80))
	done := other.await(b.ID, queue.Done)
	// A third instance, that has never heard of it, answers the same.
	third := s.world.run(likesRule("three-likes", 3, 40), likesRule("nine-likes", 9, 80)).backtest(b.ID)
	if fmt.Sprintf("%+v", third.Report.Together) != fmt.Sprintf("%+v", done.Report.Together) || third.State != "done" || third.Report.Rules[0].Users != 4 {
		t.Errorf("%v, want %v", third, done)
	}
}
