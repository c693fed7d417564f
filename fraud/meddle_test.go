package fraud_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/flag"
)

// meddled is a store on which somebody else is quicker, once: meddle is called
// right before the first commit that has an event of a type.
type meddled struct {
	log.Store
	eventType string
	meddle    func()
}

func (m *meddled) Insert(ctx context.Context, c events.Commit, keys []string) error {
	for e := range c.Events() {
		if meddle := m.meddle; meddle != nil && e.Type == m.eventType {
			m.meddle = nil
			meddle()
		}
	}
	return m.Store.Insert(ctx, c, keys)
}

// meddleWith makes a fraud log on which another writer is quicker, who may append
// what follow makes of the flag when an event of a type is about to be written.
func (w *world) meddleWith(eventType string, id *uuid.UUID, follow func(f flag.Flag) (events.Event, error)) {
	w.Helper()
	store, err := w.db.Log("fraud-meddled", events.FraudPartitions)
	if err != nil {
		w.Fatal(err)
	}
	other := log.New(store, log.Options{Clock: w.clock.Now})
	w.Cleanup(other.Close)
	m := &meddled{Store: store, eventType: eventType}
	m.meddle = func() {
		stream, err := log.ReadStream(context.Background(), other, *id)
		if err != nil {
			w.Error(err)
			return
		}
		r, err := flag.Read(stream)
		if err != nil {
			w.Error(err)
			return
		}
		e, err := follow(r.Flag)
		e.ID = uuid.New()
		if err == nil {
			_, err = other.Append(context.Background(), e)
		}
		if err != nil {
			w.Error(err)
		}
	}
	w.fraud = log.New(m, log.Options{Clock: w.clock.Now})
	w.Cleanup(w.fraud.Close)
}

func TestABulkOperationRefusesAFlagThatSomebodyChangesMeanwhile(t *testing.T) {
	w := newWorld(t)
	var moved uuid.UUID
	w.meddleWith(events.BulkDecided, &moved, func(f flag.Flag) (events.Event, error) {
		return f.Assign(uuid.UUID{0x0d, 2}, uuid.UUID{0x0d, 2}, start)
	})
	ids := w.raise(3, "three-likes", 0)
	moved = ids[1]
	s := w.run(likesRule("three-likes", 3, 40))
	o := s.bulk(`{"filter":{"assignee":"none"},"decision":"dismiss"}`)
	if o.Matched != 3 || o.Changed != 2 || len(o.Refused) != 1 || o.Refused[0].ID != moved || o.Refused[0].Status != http.StatusConflict || !strings.Contains(o.Refused[0].Detail, "meanwhile") {
		t.Errorf("%+v", o)
	}
	for i, want := range []string{"dismissed", "open", "dismissed"} {
		if f := s.flag(ids[i]); f.State != want {
			t.Errorf("flag %d is %s, want %s", i, f.State, want)
		}
	}
}

func TestAFlagThatIsAppealedWhileItIsUndoneStaysAppealed(t *testing.T) {
	w := newWorld(t)
	var moved uuid.UUID
	w.meddleWith(events.BulkUndone, &moved, func(f flag.Flag) (events.Event, error) { return f.Appeal(f.User, flag.Text{Plain: "please"}, start) })
	ids := w.raise(2, "three-likes", 0)
	moved = ids[0]
	s := w.run(likesRule("three-likes", 3, 40))
	o := s.bulk(`{"filter":{"state":"open"},"decision":"confirm"}`)
	s.undo(o.ID).want(t, http.StatusOK)
	if first, second := s.flag(ids[0]), s.flag(ids[1]); first.State != "appealed" || second.State != "open" {
		t.Errorf("%s and %s", first.State, second.State)
	}
}

// A flag's time may be over by the events' time while a moderator still has some.
// If they confirm it at the very moment of the next hit, it stands, alone.
func TestAFlagThatIsConfirmedWhileAHitWouldExpireItStands(t *testing.T) {
	w := newWorld(t)
	var confirmed uuid.UUID
	w.meddleWith(events.FlagExpired, &confirmed, func(f flag.Flag) (events.Event, error) {
		return f.Decide(flag.Confirm, moderator, flag.Text{}, start)
	})
	confirmed = w.raise(1, "three-likes", time.Hour)[0]
	s := w.run(likesRule("three-likes", 3, 40))
	w.post(likes(user(1), 3, start.Add(2*time.Hour))...)
	s.catchUp()
	if items, _ := s.flags(""); len(items) != 1 || items[0].ID != confirmed || items[0].State != "confirmed" {
		t.Errorf("%+v", items)
	}
}
