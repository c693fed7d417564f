package flag_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/flag"
)

var (
	start     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	moderator = uuid.UUID{0x0d}
	member    = uuid.UUID{0x0e}
)

// raised is the first event of a flag.
func raised(t testing.TB, id, user uuid.UUID, rule string, score int, at time.Time) events.Recorded {
	t.Helper()
	data, err := json.Marshal(events.Flag{
		User: user, Rule: rule, RuleVersion: "v", Score: score, Observed: 2, Threshold: 2,
		Evidence: []events.Evidence{{EventID: uuid.UUID{1}, Type: events.ProfileLiked}, {EventID: uuid.UUID{2}, Type: events.ProfileLiked}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return events.Recorded{Event: events.Event{ID: uuid.UUID{9}, Type: events.FlagRaised, Stream: id, Version: 1, OccurredAt: at, Data: data}}
}

func open(t testing.TB) flag.Flag {
	t.Helper()
	var f flag.Flag
	if err := f.Apply(raised(t, uuid.UUID{5}, member, "r", 50, start)); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAFlagsSummaryIsWhatItsFirstEventSays(t *testing.T) {
	want := flag.Flag{
		ID: uuid.UUID{5}, User: member, Rule: "r", RuleVersion: "v", Score: 50, Observed: 2, Threshold: 2, Evidence: 2,
		RaisedAt: start, State: flag.Open, Version: 1,
	}
	if diff := cmp.Diff(want, open(t)); diff != "" {
		t.Errorf("flag (-want +got):\n%s", diff)
	}
	// The same in another order of fields, which takes the long way.
	e := raised(t, uuid.UUID{5}, member, "r", 50, start)
	var fields map[string]any
	if err := json.Unmarshal(e.Data, &fields); err != nil {
		t.Fatal(err)
	}
	var err error
	if e.Data, err = json.MarshalIndent(fields, "", " "); err != nil {
		t.Fatal(err)
	}
	var f flag.Flag
	if err := f.Apply(e); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Errorf("indented (-want +got):\n%s", diff)
	}
}

func TestAnEventCountsOnceAndMustFollow(t *testing.T) {
	f := open(t)
	confirm, err := f.Decide(flag.Confirm, moderator, "", start)
	if err != nil {
		t.Fatal(err)
	}
	late := confirm
	late.Version = 3
	for name, e := range map[string]events.Event{"a hole": late, "raised twice": {Type: events.FlagRaised, Version: 2}} {
		was := f
		if err := f.Apply(events.Recorded{Event: e}); err == nil || f != was {
			t.Errorf("%s: %v, %+v", name, err, f)
		}
	}
	for range 2 {
		if err := f.Apply(events.Recorded{Event: confirm}); err != nil || f.State != flag.Confirmed || f.Version != 2 {
			t.Errorf("%v, %+v", err, f)
		}
	}
	unknown := events.Event{Type: "fraud.flag_expired.v1", Stream: f.ID, Version: 3, Data: []byte(`{}`)}
	if err := f.Apply(events.Recorded{Event: unknown}); err != nil || f.State != flag.Confirmed || f.Version != 3 {
		t.Errorf("a type of a later build: %v, %+v", err, f)
	}
}

func TestARecordIsReadFromItsStreamOnly(t *testing.T) {
	if _, err := flag.Read(nil); !errors.Is(err, flag.ErrUnknown) {
		t.Errorf("an empty stream: %v", err)
	}
	rule := events.Recorded{Event: events.Event{Type: events.RuleDefined, Version: 1, Data: []byte(`{}`)}}
	if _, err := flag.Read([]events.Recorded{rule}); !errors.Is(err, flag.ErrUnknown) {
		t.Errorf("a rule's stream: %v", err)
	}
}

// TestTheBoardListsWhatANaiveOneWould sends random flags and decisions through a
// board, some twice, and asks random questions.
func TestTheBoardListsWhatANaiveOneWould(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := flag.NewBoard()
		var all []*flag.Flag
		apply := func(f *flag.Flag, e events.Recorded) {
			if err := f.Apply(e); err != nil {
				rt.Fatal(err)
			}
			for range rapid.IntRange(1, 2).Draw(rt, "times") {
				if err := b.Apply(e); err != nil {
					rt.Fatal(err)
				}
			}
		}
		users := []uuid.UUID{{1}, {2}, {3}}
		for range rapid.IntRange(0, 40).Draw(rt, "steps") {
			if len(all) == 0 || rapid.Bool().Draw(rt, "raise") {
				f := new(flag.Flag)
				apply(f, raised(t, uuid.UUID{5, byte(len(all))}, rapid.SampledFrom(users).Draw(rt, "user"),
					rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "rule"), rapid.IntRange(0, 3).Draw(rt, "score"),
					start.Add(time.Duration(rapid.IntRange(0, 5).Draw(rt, "at"))*time.Second)))
				all = append(all, f)
				continue
			}
			f := rapid.SampledFrom(all).Draw(rt, "flag")
			e, err := change(rt, f)
			if err == nil {
				apply(f, events.Recorded{Event: e})
			}
		}
		q := flag.Query{
			Rule:     rapid.SampledFrom([]string{"", "a"}).Draw(rt, "of rule"),
			User:     rapid.SampledFrom([]uuid.UUID{{}, {1}}).Draw(rt, "of user"),
			MinScore: rapid.IntRange(0, 2).Draw(rt, "min score"),
			Sort:     rapid.SampledFrom(flag.Sorts()).Draw(rt, "sort"),
			Limit:    rapid.IntRange(1, 5).Draw(rt, "limit"),
		}
		if rapid.Bool().Draw(rt, "by state") {
			q.States = []flag.State{flag.Open, flag.Appealed}
		}
		if rapid.Bool().Draw(rt, "by assignee") {
			q.Assignee = &uuid.UUID{}
		}
		if rapid.Bool().Draw(rt, "by time") {
			q.Since, q.Until = start.Add(time.Second), start.Add(4*time.Second)
		}
		want := naive(all, q)
		var got []flag.Flag
		for {
			page, next := b.List(q)
			got = append(got, page...)
			if next == nil {
				break
			}
			if len(page) != q.Limit {
				rt.Fatalf("a page of %d, want %d", len(page), q.Limit)
			}
			q.After = next
		}
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("%+v (-want +got):\n%s", q, diff)
		}
		urgent, ok := b.MostUrgent()
		var waiting []flag.Flag
		for _, f := range all {
			if f.State.Waiting() && f.Assignee == uuid.Nil {
				waiting = append(waiting, *f)
			}
		}
		slices.SortFunc(waiting, func(a, b flag.Flag) int {
			if a.Score != b.Score {
				return b.Score - a.Score
			}
			return before(a, b)
		})
		if ok != (len(waiting) > 0) || ok && urgent != waiting[0] {
			rt.Fatalf("most urgent: %+v, want the first of %+v", urgent, waiting)
		}
	})
}

// change makes a random event of a flag, if its state allows.
func change(t *rapid.T, f *flag.Flag) (events.Event, error) {
	switch what := rapid.IntRange(0, 7).Draw(t, "what"); what {
	case 5:
		return f.Appeal(f.User, "x", start)
	case 6:
		return f.Assign(rapid.SampledFrom([]uuid.UUID{{}, moderator}).Draw(t, "assignee"), moderator, start)
	case 7:
		return f.Annotate(moderator, "x", start)
	default:
		return f.Decide(flag.Decisions()[what], moderator, "", start)
	}
}

func before(a, b flag.Flag) int {
	if c := a.RaisedAt.Compare(b.RaisedAt); c != 0 {
		return c
	}
	return slices.Compare(a.ID[:], b.ID[:])
}

func naive(all []*flag.Flag, q flag.Query) (out []flag.Flag) {
	for _, f := range all {
		if (q.States == nil || slices.Contains(q.States, f.State)) && (q.Rule == "" || q.Rule == f.Rule) &&
			(q.User == uuid.Nil || q.User == f.User) && f.Score >= q.MinScore && (q.Assignee == nil || *q.Assignee == f.Assignee) &&
			!(!q.Since.IsZero() && f.RaisedAt.Before(q.Since)) && !(!q.Until.IsZero() && !f.RaisedAt.Before(q.Until)) {
			out = append(out, *f)
		}
	}
	slices.SortFunc(out, func(a, b flag.Flag) int {
		c := before(a, b)
		if (q.Sort == flag.Mildest || q.Sort == flag.Severest) && a.Score != b.Score {
			c = a.Score - b.Score
		}
		if q.Sort == flag.Newest || q.Sort == flag.Severest {
			c = -c
		}
		return c
	})
	return out
}
