package backtest_test

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/fraud/backtest"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/fraud/rule"
)

// newFraudLog is a fraud log in a new file.
func newFraudLog(t *testing.T) *log.Log {
	t.Helper()
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := db.Log(events.FraudLog, events.FraudPartitions)
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

func write(t *testing.T, l *log.Log, e events.Event) {
	t.Helper()
	if e.ID == uuid.Nil {
		e.ID = uuid.New()
	}
	if _, err := l.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

// undone takes a decision back.
const undone flag.Decision = "undone"

// raise raises a flag of a user by a rule, and has decisions made of it: an appeal
// if one is empty.
func raise(t *testing.T, l *log.Log, n int, by string, at time.Time, byRule bool, decisions ...flag.Decision) {
	t.Helper()
	data, err := json.Marshal(events.Flag{User: user(n), Rule: by})
	if err != nil {
		t.Fatal(err)
	}
	raised := events.Event{Type: events.FlagRaised, Stream: uuid.New(), Version: 1, OccurredAt: at, Data: data}
	write(t, l, raised)
	var f flag.Flag
	if err := f.Apply(events.Recorded{Event: raised}); err != nil {
		t.Fatal(err)
	}
	for i, d := range decisions {
		var e events.Event
		switch d {
		case "":
			e, err = f.Appeal(f.User, flag.Text{Plain: "no"}, at)
		case undone:
			left := events.BulkFlag{Flag: f.ID, Version: f.Version, Before: events.Standpoint{State: string(flag.Open)}}
			e, err = f.Undo(flag.Confirm, left, uuid.New(), flag.Text{}, uuid.New(), at)
		default:
			e, err = f.Decide(d, uuid.New(), flag.Text{}, at)
		}
		if err != nil {
			t.Fatal(err)
		}
		if byRule && i == 0 {
			e.ID = flag.MarkID(f.ID)
		}
		write(t, l, e)
		if err := f.Apply(events.Recorded{Event: e}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADecisionIsOneOfAModerator(t *testing.T) {
	l := newFraudLog(t)
	raise(t, l, 1, "a", start, false)
	raise(t, l, 2, "a", start, false, flag.Confirm)
	raise(t, l, 3, "a", start, false, flag.Dismiss)
	raise(t, l, 4, "a", start, true, flag.Confirm)
	raise(t, l, 5, "a", start, true, flag.Confirm, "", flag.Uphold)
	raise(t, l, 6, "a", start, true, flag.Confirm, flag.Overturn)
	raise(t, l, 7, "a", start, false, flag.Confirm, "")
	raise(t, l, 8, "a", start, false, flag.Dismiss)
	raise(t, l, 8, "b", start.Add(time.Hour), false, flag.Escalate, flag.Confirm)
	raise(t, l, 9, "b", start, false, flag.Confirm)
	raise(t, l, 9, "a", start, false, flag.Dismiss)
	raise(t, l, 10, "a", start, false, flag.Confirm, undone)
	raise(t, l, 11, "a", start, true, flag.Confirm, undone, flag.Confirm)
	r, err := backtest.ReadRecord(t.Context(), l, start, start.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	want := map[uuid.UUID]backtest.Verdict{
		user(2): backtest.Bad, user(3): backtest.Good, user(5): backtest.Bad, user(6): backtest.Good, user(8): backtest.Bad, user(9): backtest.Bad,
		user(11): backtest.Bad,
	}
	if diff := cmp.Diff(want, r.Decided); diff != "" {
		t.Errorf("decisions (-want +got):\n%s", diff)
	}
	if len(r.Flagged["a"]) != 7 || len(r.Flagged["b"]) != 1 || r.Flagged["b"][0] != user(9) {
		t.Errorf("flags on record within the hour: %v", r.Flagged)
	}
}

func TestTheVersionThatRunsIsTheOneThatIsLiveOrInShadow(t *testing.T) {
	l := newFraudLog(t)
	define := func(id string, version uint64, threshold int, mode rule.Mode) {
		t.Helper()
		r := aRule(id, threshold, rule.Window{Sliding: rule.Duration(time.Hour)}, rule.Count)
		spec, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(events.RuleDefinition{Rule: id, Version: r.Version(), Mode: string(mode), Spec: spec})
		if err != nil {
			t.Fatal(err)
		}
		write(t, l, events.Event{Type: events.RuleDefined, Stream: events.DeriveID(uuid.UUID{1}, id), Version: version, OccurredAt: start, Data: data})
	}
	move := func(id string, version uint64, to rule.Mode) {
		t.Helper()
		data, err := json.Marshal(events.RuleMode{Rule: id, To: string(to)})
		if err != nil {
			t.Fatal(err)
		}
		write(t, l, events.Event{Type: events.RuleModeChanged, Stream: events.DeriveID(uuid.UUID{1}, id), Version: version, OccurredAt: start, Data: data})
	}
	define("many", 1, 4, rule.Live)
	define("many", 2, 5, rule.Live)
	define("burst", 1, 7, rule.Draft)
	move("burst", 2, rule.Shadow)
	define("young", 1, 3, rule.Live)
	move("young", 2, rule.Retired)
	// One that a later build wrote is left out, and everything else is read.
	later := []byte(`{"rule":"later","version":"0123456789abcdef","mode":"live","spec":{"threshold":"some"}}`)
	write(t, l, events.Event{Type: events.RuleDefined, Stream: uuid.UUID{2}, Version: 1, OccurredAt: start, Data: later})
	r, err := backtest.ReadRecord(t.Context(), l, time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Running) != 2 || r.Running["many"].Threshold != 5 || r.Running["burst"].Mode != rule.Shadow {
		t.Fatalf("%+v", r.Running)
	}

	activity := newLog(t)
	fill(t, activity, history(5000))
	report := run(t, activity, backtest.Options{Record: r})
	for i, id := range []string{"burst", "many"} {
		users := hitBy(t, activity, time.Time{}, time.Time{}, rules[i], r.Running[id])
		ours, theirs := users[0], users[1]
		newly, gone, still := 0, 0, 0
		for u := range ours {
			if theirs[u] {
				still++
			} else {
				newly++
			}
		}
		for u := range theirs {
			if !ours[u] {
				gone++
			}
		}
		v := report.Rules[i].Running
		if v == nil || v.Users != len(theirs) || v.Newly != newly || v.NoLonger != gone || v.Still != still || v.Version != r.Running[id].Version() {
			t.Errorf("%s: %+v, want %d newly, %d no longer, %d still", id, v, newly, gone, still)
		}
	}
	if report.Rules[2].Running != nil || report.Rules[3].Running != nil {
		t.Error("a rule that does not run is compared with")
	}

	// The very version that runs is compared with itself.
	one, err := backtest.Run(t.Context(), activity, []rule.Rule{r.Running["many"]}, backtest.Options{Record: r})
	if err != nil {
		t.Fatal(err)
	}
	if v := one.Rules[0].Running; v == nil || v.Newly != 0 || v.NoLonger != 0 || v.Still != one.Rules[0].Users || v.Hits != one.Rules[0].Hits {
		t.Errorf("with itself: %+v", v)
	}
}
