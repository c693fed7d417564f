package flag_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/flag"
)

// follow folds an event in, which must be allowed.
func follow(t testing.TB, f *flag.Flag) func(events.Event, error) {
	return func(e events.Event, err error) {
		t.Helper()
		if err == nil {
			err = f.Apply(events.Recorded{Event: e})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func openFor(t testing.TB, while time.Duration) flag.Flag {
	t.Helper()
	var f flag.Flag
	if err := f.Apply(raisedFor(t, uuid.UUID{5}, member, "r", 50, start, while)); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAnOpenFlagExpiresWhenItsTimeIsOver(t *testing.T) {
	f := openFor(t, time.Hour)
	end := start.Add(time.Hour)
	if _, err := f.Expire(end.Add(-1)); !errors.Is(err, flag.ErrNotAllowed) {
		t.Errorf("a moment before: %v", err)
	}
	for _, d := range flag.Decisions() {
		if _, err := f.Decide(d, moderator, flag.Text{}, end); !errors.Is(err, flag.ErrNotAllowed) {
			t.Errorf("%s when its time is over: %v", d, err)
		}
	}
	if _, err := f.Decide(flag.Confirm, moderator, flag.Text{}, end.Add(-1)); err != nil {
		t.Errorf("a decision a moment before: %v", err)
	}
	e, err := f.Expire(end.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if !e.OccurredAt.Equal(end) || e.Type != events.FlagExpired {
		t.Errorf("%+v, want it to occur when the flag's time was over", e)
	}
	if again, _ := f.Expire(end.Add(time.Hour)); again.ID != e.ID {
		t.Error("another instance, later, makes another event of it")
	}
	follow(t, &f)(e, nil)
	if f.State != flag.Expired || !f.State.Final() || f.State.Waiting() || f.State.Stands() {
		t.Errorf("%+v", f)
	}
	if _, err := f.Decide(flag.Confirm, moderator, flag.Text{}, start); !errors.Is(err, flag.ErrNotAllowed) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("a decision on it: %v", err)
	}
}

func TestWhatNeverExpires(t *testing.T) {
	late := start.AddDate(10, 0, 0)
	for name, c := range map[string]struct {
		while    time.Duration
		decision flag.Decision
	}{
		"a flag without an end": {0, ""},
		"an escalated one":      {time.Hour, flag.Escalate},
		"a confirmed one":       {time.Hour, flag.Confirm},
		"a dismissed one":       {time.Hour, flag.Dismiss},
	} {
		f := openFor(t, c.while)
		if c.decision != "" {
			follow(t, &f)(f.Decide(c.decision, moderator, flag.Text{}, start))
		}
		if _, err := f.Expire(late); !errors.Is(err, flag.ErrNotAllowed) || f.Due(late) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whether an expired flag's time has been noticed or not, a hit finds the same.
func TestAFlagCoversUntilItsTimeIsOver(t *testing.T) {
	for _, noticed := range []bool{false, true} {
		b := flag.NewBoard()
		e := raisedFor(t, uuid.UUID{5}, member, "r", 50, start, time.Hour)
		f := openFor(t, time.Hour)
		apply := func(e events.Event) {
			t.Helper()
			if err := b.Apply(events.Recorded{Event: e}); err != nil {
				t.Fatal(err)
			}
		}
		apply(e.Event)
		if noticed {
			over, err := f.Expire(start.Add(2 * time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			apply(over)
		}
		for after, want := range map[time.Duration]bool{0: true, time.Hour - 1: true, time.Hour: false, flag.Snooze: false} {
			if got := b.Covers(member, "r", start.Add(after)); got != want {
				t.Errorf("noticed: %t, a hit after %s: covered is %t, want %t", noticed, after, got, want)
			}
		}
		if lapsed := b.Lapsed(member, "r", start.Add(time.Hour)); (len(lapsed) == 1) == noticed {
			t.Errorf("noticed: %t, lapsed: %+v", noticed, lapsed)
		}
	}
}

func TestUndoingPutsAFlagBackWhereItStood(t *testing.T) {
	bulk := uuid.UUID{0xb0}
	for _, c := range []struct {
		before []flag.Decision
		appeal bool
		d      flag.Decision
	}{
		{nil, false, flag.Confirm},
		{nil, false, flag.Dismiss},
		{nil, false, flag.Escalate},
		{[]flag.Decision{flag.Escalate}, false, flag.Dismiss},
		{[]flag.Decision{flag.Confirm}, false, flag.Overturn},
		{[]flag.Decision{flag.Escalate, flag.Confirm}, true, flag.Uphold},
		{[]flag.Decision{flag.Confirm}, true, flag.Overturn},
	} {
		f := openFor(t, time.Hour)
		for _, d := range c.before {
			follow(t, &f)(f.Decide(d, moderator, flag.Text{}, start.Add(time.Second)))
		}
		if c.appeal {
			follow(t, &f)(f.Appeal(member, flag.Text{Plain: "please"}, start.Add(2*time.Second)))
		}
		want := f
		left := events.BulkFlag{Flag: f.ID, Version: f.Version + 1, Before: f.Standpoint()}
		follow(t, &f)(f.DecideInBulk(c.d, moderator, flag.Text{}, bulk, start.Add(3*time.Second)))
		follow(t, &f)(f.Annotate(moderator, flag.Text{Plain: "a note does not move it on"}, start.Add(4*time.Second)))
		if c.d != flag.Dismiss && c.d != flag.Uphold && c.d != flag.Overturn {
			follow(t, &f)(f.Assign(moderator, moderator, start.Add(4*time.Second)))
			want.Assignee = moderator
		}
		follow(t, &f)(f.Undo(c.d, left, moderator, flag.Text{}, bulk, start.Add(5*time.Second)))
		want.Version, want.SettledBy = f.Version, f.Version
		if diff := cmp.Diff(want, f); diff != "" {
			t.Errorf("%s after %v (-want +got):\n%s", c.d, c.before, diff)
		}
		if _, err := f.Undo(c.d, left, moderator, flag.Text{}, bulk, start.Add(5*time.Second)); !errors.Is(err, flag.ErrNotAllowed) {
			t.Errorf("undone twice: %v", err)
		}
	}
}

func TestWhatHasMovedOnIsNotUndone(t *testing.T) {
	bulk := uuid.UUID{0xb0}
	f := open(t)
	left := events.BulkFlag{Flag: f.ID, Version: 2, Before: f.Standpoint()}
	follow(t, &f)(f.DecideInBulk(flag.Confirm, moderator, flag.Text{}, bulk, start))
	follow(t, &f)(f.Appeal(member, flag.Text{Plain: "please"}, start))
	if _, err := f.Undo(flag.Confirm, left, moderator, flag.Text{}, bulk, start); !errors.Is(err, flag.ErrNotAllowed) || !strings.Contains(err.Error(), "appealed") {
		t.Errorf("%v, want a refusal that says where it is", err)
	}
}

func TestAnUndoneDismissalIsNoSnooze(t *testing.T) {
	b := flag.NewBoard()
	f := open(t)
	step := func(e events.Event, err error) {
		t.Helper()
		if err == nil {
			err = errors.Join(f.Apply(events.Recorded{Event: e}), b.Apply(events.Recorded{Event: e}))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Apply(raised(t, uuid.UUID{5}, member, "r", 50, start)); err != nil {
		t.Fatal(err)
	}
	left := events.BulkFlag{Flag: f.ID, Version: 2, Before: f.Standpoint()}
	step(f.DecideInBulk(flag.Dismiss, moderator, flag.Text{}, uuid.UUID{0xb0}, start))
	if b.Covers(member, "r", start.Add(flag.Snooze)) || !b.Covers(member, "r", start.Add(flag.Snooze-1)) {
		t.Error("a dismissal snoozes for 30 days")
	}
	step(f.Undo(flag.Dismiss, left, moderator, flag.Text{}, uuid.UUID{0xb0}, start))
	if !b.Covers(member, "r", start.Add(flag.Snooze)) {
		t.Error("the flag is open again and does not cover")
	}
}

func TestARecordTellsOfEveryEvent(t *testing.T) {
	bulk := uuid.UUID{0xb0}
	f := openFor(t, time.Hour)
	stream := []events.Recorded{raisedFor(t, uuid.UUID{5}, member, "r", 50, start, time.Hour)}
	add := func(e events.Event, err error) {
		t.Helper()
		follow(t, &f)(e, err)
		stream = append(stream, events.Recorded{Event: e})
	}
	left := events.BulkFlag{Flag: f.ID, Version: 2, Before: f.Standpoint()}
	sealed := flag.Text{Sealed: &events.SealedText{Key: f.User, Bytes: []byte{1, 2}}}
	add(f.DecideInBulk(flag.Dismiss, moderator, sealed, bulk, start.Add(1)))
	add(f.Undo(flag.Dismiss, left, moderator, flag.Text{Plain: "not the same"}, bulk, start.Add(2)))
	add(f.Annotate(moderator, flag.Text{Plain: "hm"}, start.Add(3)))
	add(events.Event{Type: "fraud.flag_sung.v1", Stream: f.ID, Version: 5, OccurredAt: start.Add(4), Data: []byte(`[1]`)}, nil)
	add(f.Expire(start.Add(2 * time.Hour)))
	r, err := flag.Read(stream)
	if err != nil {
		t.Fatal(err)
	}
	want := []flag.Entry{
		{At: start, Type: "raised"},
		{At: start.Add(1), Type: "dismissed", By: moderator, Note: sealed, Bulk: bulk},
		{At: start.Add(2), Type: "undone", By: moderator, Note: flag.Text{Plain: "not the same"}, Bulk: bulk, Undoes: flag.Dismiss},
		{At: start.Add(3), Type: "noted", By: moderator, Note: flag.Text{Plain: "hm"}},
		{At: start.Add(4), Type: "sung"},
		{At: start.Add(time.Hour), Type: "expired"},
	}
	if diff := cmp.Diff(want, r.History); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

func TestMarksCountForTheDayOfWhatTheyHitOn(t *testing.T) {
	b := flag.NewBoard()
	midnight := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	for i, at := range []time.Time{midnight.Add(-1), midnight, midnight.Add(time.Hour), time.Unix(-1, 0)} {
		id := uuid.UUID{5, byte(i)}
		var f flag.Flag
		first := raised(t, id, member, "r", 50, at)
		follow(t, &f)(first.Event, nil)
		e, err := f.Decide(flag.Confirm, uuid.UUID{0xaa}, flag.Text{Plain: "by the rule"}, at)
		if err != nil {
			t.Fatal(err)
		}
		if i != 2 { // that one was a moderator's
			e.ID = flag.MarkID(id)
		}
		for range 2 {
			for _, e := range []events.Event{first.Event, e} {
				if err := b.Apply(events.Recorded{Event: e}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for at, want := range map[time.Time]int{midnight.Add(-1): 1, midnight.Add(23 * time.Hour): 1, midnight.AddDate(0, 0, 1): 0, time.Unix(-86400, 0): 1, time.Unix(0, 0): 0} {
		if got := b.MarksOn(flag.DayOf(at)); got != want {
			t.Errorf("%s: %d marks, want %d", flag.DayOf(at), got, want)
		}
	}
}
