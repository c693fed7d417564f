package backtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/fraud/backtest"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/labels"
	"github.com/meet5/backend/fraud/rule"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newLog is an activity log in a new file.
func newLog(t testing.TB) *log.Log {
	t.Helper()
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := db.Log(events.ActivityLog, events.ActivityPartitions)
	if err != nil {
		t.Fatal(err)
	}
	l := log.New(store, log.Options{})
	t.Cleanup(func() {
		l.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// fill appends events of one log, many of a partition at a time.
func fill(t testing.TB, l *log.Log, evs []events.Event) {
	t.Helper()
	byPartition := make([][]events.Event, l.Partitions())
	for _, e := range evs {
		p := events.PartitionOf(e.Stream, l.Partitions())
		byPartition[p] = append(byPartition[p], e)
	}
	var pending []*log.Pending
	for _, list := range byPartition {
		for chunk := range slices.Chunk(list, 500) {
			p, err := l.Submit(chunk...)
			if err != nil {
				t.Fatal(err)
			}
			pending = append(pending, p)
		}
	}
	for _, p := range pending {
		if _, err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func user(n int) uuid.UUID { return uuid.NewSHA1(uuid.UUID{8}, []byte{byte(n), byte(n >> 8)}) }

// history is n events of a hundred users, in bursts, by a trusted source.
func history(n int) (evs []events.Event) {
	r := rand.New(rand.NewPCG(7, 11))
	at := start
	for i := range n {
		if i%50 == 0 {
			at = at.Add(time.Duration(r.IntN(600)) * time.Second)
		}
		at = at.Add(time.Duration(r.IntN(2000)) * time.Millisecond)
		eventType := events.ProfileVisited
		if r.IntN(3) == 0 {
			eventType = events.ProfileLiked
		}
		who := r.IntN(100)
		evs = append(evs, events.Event{
			ID: uuid.NewSHA1(uuid.UUID{9}, []byte{byte(i), byte(i >> 8)}), Type: eventType, Stream: user(who), OccurredAt: at,
			Data: events.Activity{Target: user(1000 + r.IntN(30)), JoinedAt: start.Add(time.Duration(who) * time.Minute), Trusted: true}.AppendJSON(nil),
		})
	}
	return evs
}

func aRule(id string, threshold int, window rule.Window, aggregate rule.Aggregate) rule.Rule {
	r := rule.Rule{
		ID: id, Title: id, Key: rule.KeyActor, Events: []rule.Kind{rule.Visit, rule.Like}, Window: window,
		Aggregate: aggregate, Threshold: threshold, Score: 50, Effect: rule.Flag, Mode: rule.Draft,
	}
	if aggregate == rule.PairedDistinct {
		r.Reading = rule.Both
	}
	return r
}

var rules = []rule.Rule{
	aRule("burst", 5, rule.Window{Sliding: rule.Duration(10 * time.Minute)}, rule.Count),
	aRule("many", 6, rule.Window{Sliding: rule.Duration(time.Hour)}, rule.Distinct),
	aRule("young", 2, rule.Window{SinceAccountCreation: rule.Duration(3 * time.Hour)}, rule.PairedDistinct),
	aRule("never", 9000, rule.Window{Sliding: rule.Duration(time.Hour)}, rule.Count),
}

// sequential runs the rules over one partition after the other.
func sequential(t *testing.T, l *log.Log) map[string][]engine.Hit {
	t.Helper()
	found := make(map[string][]engine.Hit)
	for p := range l.Partitions() {
		g, err := engine.New(rules)
		if err != nil {
			t.Fatal(err)
		}
		for e, err := range log.Events(t.Context(), l, p, 0) {
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range g.Process(&e, nil) {
				found[h.Rule.ID] = append(found[h.Rule.ID], h)
			}
		}
	}
	return found
}

func usersOf(hits []engine.Hit) map[uuid.UUID]bool {
	users := make(map[uuid.UUID]bool)
	for _, h := range hits {
		users[h.User] = true
	}
	return users
}

func run(t *testing.T, l log.Reader, o backtest.Options) backtest.Report {
	t.Helper()
	r, err := backtest.Run(t.Context(), l, rules, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAReportCountsWhatTheEngineFinds(t *testing.T) {
	l := newLog(t)
	const n = 5000
	fill(t, l, history(n))
	found := sequential(t, l)
	since, until := start.Add(2*time.Hour), start.Add(5*time.Hour)
	for name, o := range map[string]backtest.Options{
		"all": {}, "a period": {Since: since, Until: until},
	} {
		report := run(t, l, o)
		if name == "all" && report.Events != n || name != "all" && (report.Events == 0 || report.Events >= n) || report.Whole.Events != n {
			t.Errorf("%s: %d events of %d", name, report.Events, report.Whole.Events)
		}
		for i, r := range report.Rules {
			hits := slices.DeleteFunc(slices.Clone(found[rules[i].ID]), func(h engine.Hit) bool {
				return name != "all" && (h.At.Before(since) || !h.At.Before(until))
			})
			if r.Rule != rules[i].ID || r.Hits != uint64(len(hits)) || r.Users != len(usersOf(hits)) || r.Events != report.Events {
				t.Errorf("%s: %s: %d hits on %d users, want %d on %d", name, r.Rule, r.Hits, r.Users, len(hits), len(usersOf(hits)))
			}
			if r.Rule != "never" && (r.Hits == 0 || len(r.Flags) == 0) {
				t.Errorf("%s: %s finds nothing: the test is too easy", name, r.Rule)
			}
			if !slices.IsSortedFunc(r.Flags, func(a, b backtest.Flag) int { return a.RaisedAt.Compare(b.RaisedAt) }) {
				t.Errorf("%s: %s: flags out of order", name, r.Rule)
			}
		}
	}
}

func TestAReportIsTheSameWhateverRunsSideBySide(t *testing.T) {
	l := newLog(t)
	fill(t, l, history(3000))
	text := func(workers int) string {
		b, err := json.Marshal(run(t, l, backtest.Options{Workers: workers, Sample: 7}))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	want := text(1)
	for _, workers := range []int{1, 2, 5, 64} {
		if diff := cmp.Diff(want, text(workers)); diff != "" {
			t.Fatalf("%d workers (-want +got):\n%s", workers, diff)
		}
	}
}

func TestFlagsOnRecordAndLabelsAreComparedWith(t *testing.T) {
	l := newLog(t)
	fill(t, l, history(5000))
	found := sequential(t, l)
	hit := usersOf(found["burst"])
	var on []uuid.UUID
	var known []labels.Label
	still, gone, right := 0, 0, 0
	for n := range 120 { // users 100 and on have done nothing
		switch u := user(n); {
		case n%2 == 0 && hit[u]:
			on, still = append(on, u, u), still+1
		case n%2 == 0:
			on, gone = append(on, u), gone+1
		}
		if n%3 == 0 {
			if hit[user(n)] {
				right++
			}
			known = append(known, labels.Label{User: user(n), At: start, Label: "1"}, labels.Label{User: user(n), At: start, Label: "2"})
		}
	}
	report := run(t, l, backtest.Options{
		Sample: 3,
		Record: backtest.Record{Flagged: map[string][]uuid.UUID{"burst": on}},
		Labels: each(known),
	})
	burst, never := report.Rules[0], report.Rules[3]
	if c := burst.OnRecord; c == nil || c.Still != still || c.NoLonger != gone || c.Newly != len(hit)-still ||
		len(c.NewlyUsers) != min(3, c.Newly) || len(c.NoLongerUsers) != min(3, gone) {
		t.Errorf("%+v, want %d still, %d no longer, %d newly", c, still, gone, len(hit)-still)
	}
	const labelled = 34 // of users 0 to 99
	if m := burst.Measured; m == nil || m.Against != backtest.Imported || m.Bad != labelled || m.Good != 100-labelled || m.Unknown != 0 ||
		m.HitBad != right || m.HitGood != len(hit)-right || *m.Precision != float64(right)/float64(len(hit)) || *m.Recall != float64(right)/labelled {
		t.Errorf("%+v, want %d of %d", m, right, labelled)
	}
	if m := never.Measured; m == nil || m.Precision != nil || *m.Recall != 0 {
		t.Errorf("a rule without a hit: %+v", m)
	}
	var table strings.Builder
	if err := report.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(table.String()), "\n"); len(lines) != 7 || !strings.Contains(lines[4], "0.0 %") ||
		lines[6] != "Measured against imported labels: 34 bad users, 66 good ones, 0 of whom nothing is known." {
		t.Errorf("table:\n%s", table.String())
	}

	failure := errors.New("no labels today")
	_, err := backtest.Run(t.Context(), l, rules, backtest.Options{Labels: func(yield func(labels.Label, error) bool) {
		yield(labels.Label{}, failure)
	}})
	if !errors.Is(err, failure) {
		t.Errorf("labels that cannot be read: %v", err)
	}
}

func TestProgressGoesForwardToTheEnd(t *testing.T) {
	l := newLog(t)
	fill(t, l, history(3000))
	var told []backtest.Progress
	run(t, l, backtest.Options{Progress: func(p backtest.Progress) { told = append(told, p) }})
	if len(told) == 0 || told[len(told)-1] != (backtest.Progress{Events: 3000, Total: 3000}) ||
		!slices.IsSortedFunc(told, func(a, b backtest.Progress) int { return int(a.Events) - int(b.Events) }) { //nolint:gosec // small
		t.Errorf("%+v", told)
	}
}

func TestItEndsWithItsContext(t *testing.T) {
	l := newLog(t)
	fill(t, l, history(3000))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := backtest.Run(ctx, l, rules, backtest.Options{Workers: 1, Progress: func(backtest.Progress) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestAnEmptyLogAndNoRules(t *testing.T) {
	l := newLog(t)
	if r := run(t, l, backtest.Options{}); r.Events != 0 || len(r.Rules) != len(rules) {
		t.Errorf("%+v", r)
	}
	if _, err := backtest.Run(t.Context(), l, nil, backtest.Options{}); !errors.Is(err, backtest.ErrNoRules) {
		t.Errorf("no rules: %v", err)
	}
	bad := rules[0]
	bad.Threshold = -1
	if _, err := backtest.Run(t.Context(), l, []rule.Rule{bad}, backtest.Options{}); err == nil {
		t.Error("an invalid rule was run")
	}
}
