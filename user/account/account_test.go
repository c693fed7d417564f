package account_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/user/account"
)

var (
	user    = uuid.MustParse("018f3c5e-7b1a-7c3d-9e2f-0a1b2c3d4e5f")
	joined  = time.Date(2026, 1, 2, 3, 4, 5, 678_000, time.UTC)
	decided = joined.Add(time.Hour)
)

// stream makes a stream of events; types and payloads alternate.
func stream(t *testing.T, typesAndPayloads ...any) []events.Recorded {
	t.Helper()
	var out []events.Recorded
	for i := 0; i < len(typesAndPayloads); i += 2 {
		data, err := json.Marshal(typesAndPayloads[i+1])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, events.Recorded{Event: events.Event{
			ID: uuid.New(), Type: typesAndPayloads[i].(string), Stream: user,
			Version: uint64(len(out)) + 1, OccurredAt: decided, Data: data,
		}})
	}
	return out
}

func TestAnAccountIsTheFoldOfItsStream(t *testing.T) {
	registered := events.Registration{Sealed: []byte("first"), Roles: []string{"analyst"}, JoinedAt: joined}
	base := account.Account{
		ID: user, Version: 1, Roles: []string{"analyst"}, JoinedAt: joined,
		Sealed: account.Sealed{EventType: events.UserRegistered, Bytes: []byte("first")},
	}
	a, b := events.Standing{Flag: "a", Rule: "r"}, events.Standing{Flag: "b", Rule: "s"}
	for _, c := range []struct {
		name   string
		after  []any
		change func(*account.Account)
		status account.Status
	}{
		{"registered", nil, func(*account.Account) {}, account.Active},
		{"a changed profile", []any{events.UserProfileChanged, events.ProfileChange{Sealed: []byte("second")}},
			func(w *account.Account) {
				w.Version, w.Sealed = 2, account.Sealed{EventType: events.UserProfileChanged, Bytes: []byte("second")}
			}, account.Active},
		{"changed roles", []any{events.UserRolesChanged, events.Roles{}},
			func(w *account.Account) { w.Version, w.Roles = 2, nil }, account.Active},
		{"marked", []any{events.UserMarkedFraudulent, a},
			func(w *account.Account) { w.Version, w.Marks = 2, []account.Mark{{"a", "r", decided}} }, account.Fraudulent},
		{"marked twice and cleared once", []any{events.UserMarkedFraudulent, a, events.UserMarkedFraudulent, b, events.UserCleared, a},
			func(w *account.Account) { w.Version, w.Marks = 4, []account.Mark{{"b", "s", decided}} }, account.Fraudulent},
		{"cleared", []any{events.UserMarkedFraudulent, a, events.UserCleared, a},
			func(w *account.Account) { w.Version = 3 }, account.Active},
		{"marked again by the same flag", []any{events.UserMarkedFraudulent, a, events.UserMarkedFraudulent, a, events.UserCleared, a},
			func(w *account.Account) { w.Version = 4 }, account.Active},
		{"marked and erased", []any{events.UserMarkedFraudulent, a, events.UserErased, events.Erasure{}},
			func(w *account.Account) {
				w.Version, w.Erased, w.ErasedAt, w.Marks = 3, true, decided, []account.Mark{{"a", "r", decided}}
			}, account.Erased},
		{"a type of a later build", []any{"user.promoted.v9", map[string]string{"to": "king"}},
			func(w *account.Account) { w.Version = 2 }, account.Active},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := account.Fold(stream(t, append([]any{events.UserRegistered, registered}, c.after...)...))
			if err != nil {
				t.Fatal(err)
			}
			want := base
			c.change(&want)
			if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(account.Account{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("account (-want +got):\n%s", diff)
			}
			if got.Status() != c.status {
				t.Errorf("status %s, want %s", got.Status(), c.status)
			}
		})
	}
}

func TestADecisionIsKnownByItsEvent(t *testing.T) {
	evs := stream(t,
		events.UserRegistered, events.Registration{JoinedAt: joined},
		events.UserMarkedFraudulent, events.Standing{Flag: "a"},
		events.UserCleared, events.Standing{Flag: "a"})
	a, err := account.Fold(evs)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true, true} {
		if got := a.Decided(evs[i].ID); got != want {
			t.Errorf("Decided(event %d) = %v, want %v", i+1, got, want)
		}
	}
	if a.Decided(uuid.New()) {
		t.Error("an event that is not there has decided")
	}
}

func TestAStreamThatIsNotWholeIsRefused(t *testing.T) {
	whole := stream(t, events.UserRegistered, events.Registration{JoinedAt: joined}, events.UserErased, events.Erasure{})
	if _, err := account.Fold(nil); !errors.Is(err, account.ErrUnknown) {
		t.Errorf("no events: %v, want ErrUnknown", err)
	}
	if _, err := account.Fold(whole[1:]); err == nil {
		t.Error("a stream without its first event was folded")
	}
	if _, err := account.Fold([]events.Recorded{whole[0], whole[0]}); err == nil {
		t.Error("a stream with an event twice was folded")
	}
	whole[0].Data = []byte("{")
	if _, err := account.Fold(whole); err == nil {
		t.Error("a payload that is cut off was folded")
	}
}
