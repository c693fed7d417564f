package flag_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/flag"
)

var (
	start     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	moderator = uuid.UUID{0x0d}
	member    = uuid.UUID{0x0e}
)

// raised is the first event of a flag that never expires.
func raised(t testing.TB, id, user uuid.UUID, rule string, score int, at time.Time) events.Recorded {
	t.Helper()
	return raisedFor(t, id, user, rule, score, at, 0)
}

// raisedFor is the first event of a flag that expires after a while, unless that is
// zero.
func raisedFor(t testing.TB, id, user uuid.UUID, rule string, score int, at time.Time, while time.Duration) events.Recorded {
	t.Helper()
	var expires *time.Time
	if while > 0 {
		end := at.Add(while)
		expires = &end
	}
	data, err := json.Marshal(events.Flag{
		User: user, Rule: rule, RuleVersion: "v", Score: score, Observed: 2, Threshold: 2, ExpiresAt: expires,
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
		RaisedAt: start, State: flag.Open, SettledBy: 1, Version: 1,
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
	confirm, err := f.Decide(flag.Confirm, moderator, flag.Text{}, start)
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
	unknown := events.Event{Type: "fraud.flag_sung.v1", Stream: f.ID, Version: 3, Data: []byte(`{}`)}
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
