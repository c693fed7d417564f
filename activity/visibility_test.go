package activity_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
)

// visibility is what the activity log says of users' visibility, in order.
func (w *world) visibility(user uuid.UUID) string {
	w.Helper()
	if err := w.service.CatchUp(w.context()); err != nil {
		w.Fatal(err)
	}
	var out []string
	for _, e := range w.recorded() {
		if e.Stream != user {
			continue
		}
		switch e.Type {
		case events.ActorHidden:
			out = append(out, "hidden")
		case events.ActorRestored:
			out = append(out, "restored")
		}
	}
	return strings.Join(out, " ")
}

func TestAnActorIsHiddenWhileAnyMarkIsLeft(t *testing.T) {
	w := newWorld(t).run()
	mark := func(user uuid.UUID, flag string) events.Event {
		return w.tell(user, events.UserMarkedFraudulent, events.Standing{Flag: flag, Rule: "r"})
	}
	clear := func(user uuid.UUID, flag string) events.Event {
		return w.tell(user, events.UserCleared, events.Standing{Flag: flag, Rule: "r"})
	}
	eve, ann := w.newUser(), w.newUser()
	steps := []struct {
		do   func() events.Event
		want string
	}{
		{func() events.Event { return clear(eve, "a") }, ""},
		{func() events.Event { return mark(eve, "a") }, "hidden"},
		{func() events.Event { return mark(eve, "a") }, "hidden"},
		{func() events.Event { return mark(eve, "b") }, "hidden"},
		{func() events.Event { return clear(eve, "a") }, "hidden"},
		{func() events.Event { return clear(eve, "c") }, "hidden"},
		{func() events.Event { return clear(eve, "b") }, "hidden restored"},
		{func() events.Event { return clear(eve, "b") }, "hidden restored"},
		{func() events.Event { return mark(eve, "b") }, "hidden restored hidden"},
	}
	for i, s := range steps {
		cause := s.do()
		got := w.visibility(eve)
		if got != s.want {
			t.Fatalf("after step %d: %q, want %q", i+1, got, s.want)
		}
		changed := i == 0 && got != "" || i > 0 && got != steps[i-1].want
		for _, e := range w.recorded() {
			if e.ID == events.DeriveID(cause.ID, "visibility") {
				p, err := events.Unmarshal[events.Visibility](e)
				if !changed || err != nil || p.Cause != cause.ID || e.Stream != eve {
					t.Errorf("step %d appended %+v, %v", i+1, e, err)
				}
				changed = false
			}
		}
		if changed {
			t.Errorf("step %d: no event has the derived ID", i+1)
		}
	}
	if got := w.visibility(ann); got != "" {
		t.Errorf("someone else is %s", got)
	}
}

// TestASecondRunAppendsNothing works through the user log again from the start,
// as a service without a ledger does, and beside another instance.
func TestASecondRunAppendsNothing(t *testing.T) {
	var deps activity.Deps
	w := newWorld(t, func(d *activity.Deps) { deps = *d }).run()
	eve := w.newUser()
	for i := range 20 {
		w.tell(eve, events.UserMarkedFraudulent, events.Standing{Flag: fmt.Sprint(i)})
		w.tell(eve, events.UserCleared, events.Standing{Flag: fmt.Sprint(i)})
	}
	want := strings.TrimSpace(strings.Repeat("hidden restored ", 20))
	if got := w.visibility(eve); got != want {
		t.Fatal(got)
	}
	again, err := activity.New(activity.Config{}, deps)
	if err != nil {
		t.Fatal(err)
	}
	w.service = again
	w.run()
	if got := w.visibility(eve); got != want {
		t.Errorf("after a second run: %s", got)
	}
}

// TestNobodyEscapesByTakingTheDerivedIDFirst: the ID of the event that hides an
// actor follows from its cause, and clients choose the IDs of their activities.
func TestNobodyEscapesByTakingTheDerivedIDFirst(t *testing.T) {
	w := newWorld(t)
	eve, bob := w.newUser(), w.newUser()
	mark := w.tell(eve, events.UserMarkedFraudulent, events.Standing{Flag: "a"})
	taken := activity.NewEvent(eve, bob, activity.Visit, events.DeriveID(mark.ID, "visibility"), w.clock.Now(), joined, false)
	if _, err := w.log.Append(w.context(), taken); err != nil {
		t.Fatal(err)
	}
	w.run()
	if got := w.visibility(eve); got != "hidden" {
		t.Errorf("%q", got)
	}
	w.tell(eve, events.UserCleared, events.Standing{Flag: "a"})
	if got := w.visibility(eve); got != "hidden restored" {
		t.Errorf("%q", got)
	}
}

// TestALateSecondRunAppendsNothing: the log has long forgotten the IDs.
func TestALateSecondRunAppendsNothing(t *testing.T) {
	var deps activity.Deps
	w := newWorld(t, func(d *activity.Deps) { deps = *d }).run()
	eve, bob := w.newUser(), w.newUser()
	w.tell(eve, events.UserMarkedFraudulent, events.Standing{Flag: "a"})
	w.tell(eve, events.UserCleared, events.Standing{Flag: "a"})
	if got := w.visibility(eve); got != "hidden restored" {
		t.Fatal(got)
	}
	for left := log.Window + 1; left > 0; left -= events.MaxCommitEvents {
		evs := make([]events.Event, events.MaxCommitEvents)
		for i := range evs {
			evs[i] = activity.NewEvent(eve, bob, activity.Visit, uuid.New(), w.clock.Now(), joined, true)
		}
		if _, err := w.log.Append(w.context(), evs...); err != nil {
			t.Fatal(err)
		}
	}
	again, err := activity.New(activity.Config{}, deps)
	if err != nil {
		t.Fatal(err)
	}
	w.service = again
	w.run()
	if got := w.visibility(eve); got != "hidden restored" {
		t.Errorf("after a second run: %s", got)
	}
}

// TestAnInstanceGoesOnWhereAnotherStopped: it has not seen the marks before its
// checkpoint, and still knows how the user stood.
func TestAnInstanceGoesOnWhereAnotherStopped(t *testing.T) {
	w := newWorld(t, func(d *activity.Deps) {
		// A checkpoint after the first mark: registered, marked a.
		ledger := subscription.NewMemory()
		at := subscription.Place{Group: activity.VisibilityGroup, Log: events.UserLog}
		if err := ledger.Save(t.Context(), subscription.Checkpoint{Place: at, Sequence: 2}); err != nil {
			t.Fatal(err)
		}
		d.Ledger = ledger
	})
	eve := w.newUser()
	w.tell(eve, events.UserMarkedFraudulent, events.Standing{Flag: "a"})
	w.tell(eve, events.UserMarkedFraudulent, events.Standing{Flag: "b"})
	w.tell(eve, events.UserCleared, events.Standing{Flag: "a"})
	w.tell(eve, events.UserCleared, events.Standing{Flag: "b"})
	w.run()
	if got := w.visibility(eve); got != "restored" {
		t.Errorf("%q, want what follows from the last event alone", got)
	}
}

// withLedger gives the service a ledger that the test can look into.
func withLedger(l subscription.Ledger) option {
	return func(d *activity.Deps) { d.Ledger = l }
}

func (w *world) parked(l subscription.Ledger) []subscription.Parked {
	w.Helper()
	list, err := l.Parked(w.context(), subscription.Place{})
	if err != nil {
		w.Fatal(err)
	}
	return list
}

func TestAMarkThatCannotBeReadHoldsUpItsUserOnly(t *testing.T) {
	ledger := subscription.NewMemory()
	w := newWorld(t, withLedger(ledger))
	eve, mallory := w.newUser(), w.newUser()
	broken := w.tell(eve, events.UserMarkedFraudulent, "no standing")
	behind := w.tell(eve, events.UserMarkedFraudulent, events.Standing{Flag: "a"})
	w.tell(mallory, events.UserMarkedFraudulent, events.Standing{Flag: "b"})
	w.run()
	if got := w.visibility(mallory); got != "hidden" {
		t.Errorf("the other user is %q", got)
	}
	if got := w.visibility(eve); got != "" {
		t.Errorf("the user is %q, want nothing yet", got)
	}
	// What came before it in its batch is handled in a moment.
	w.until("two events are parked", func() bool { return len(w.parked(ledger)) == 2 })
	parked := w.parked(ledger)
	if parked[0].Event != broken.ID || parked[1].Event != behind.ID ||
		parked[0].Key != eve || parked[0].Reason == "" || parked[1].Reason != "" {
		t.Fatalf("parked: %#v", parked)
	}

	if err := ledger.Order(t.Context(), parked[0].Place, parked[0].Sequence, subscription.Drop); err != nil {
		t.Fatal(err)
	}
	w.until("what waited behind is handled", func() bool { return w.visibility(eve) == "hidden" })
	w.until("nothing is parked", func() bool { return len(w.parked(ledger)) == 0 })
}

func TestARegistrationThatCannotBeReadHoldsUpNobodyElse(t *testing.T) {
	w := newWorld(t)
	ann, odd := w.newUser(), uuid.New()
	w.tell(odd, events.UserRegistered, map[string]any{"joined_at": 7})
	bob := w.newUser()
	w.run()
	visit := func(target uuid.UUID) string { return fmt.Sprintf(`{"type":"visit","target":%q}`, target) }
	w.reply(w.post(single, w.token(ann), visit(bob)), http.StatusCreated)
	w.reply(w.post(single, w.token(ann), visit(odd)), http.StatusNotFound)
	// That it cannot be read is no reason to trust what comes after it of the same
	// user, and none to be unready.
	w.until("it is ready", w.ready)
}

// Most events of the user log ask for nothing to be written, and some marks do not.
// That they are handled well while the activity log is away does not mean that the
// others are to blame.
func TestAnOutageParksNoMark(t *testing.T) {
	ledger, store := subscription.NewMemory(), &ill{}
	var written *log.Log
	w := newWorld(t, withStore(t, store, 20*time.Millisecond), withLedger(ledger), func(d *activity.Deps) { written = d.Log })
	eve, mallory := w.newUser(), w.newUser()
	w.tell(mallory, events.UserMarkedFraudulent, events.Standing{Flag: "a"})
	w.run()
	if err := w.service.CatchUp(w.context()); err != nil {
		t.Fatal(err)
	}
	store.down.Store(true)
	w.tell(eve, events.UserMarkedFraudulent, events.Standing{Flag: "a"})
	for range 20 {
		w.newUser()
		w.tell(mallory, events.UserMarkedFraudulent, events.Standing{Flag: uuid.NewString()}) // who is hidden already
	}
	// Beyond the number of failures at which a subscription looks for the one to
	// blame.
	w.until("the mark has failed often", func() bool { return w.failures() > 5 })
	if parked := w.parked(ledger); len(parked) > 0 {
		t.Errorf("parked: %#v", parked)
	}
	store.down.Store(false)
	own := w.log
	defer func() { w.log = own }() // which is to be closed
	w.log = written
	if got := w.visibility(eve); got != "hidden" {
		t.Errorf("the user is %q; parked: %#v", got, w.parked(ledger))
	}
}

// failures is how often the service's subscriptions have failed in a row.
func (w *world) failures() (most int) {
	for _, sub := range w.service.Subscriptions() {
		for _, s := range sub.Status() {
			most = max(most, s.Failures)
		}
	}
	return most
}

// until waits for a condition.
func (w *world) until(what string, met func() bool) {
	w.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(waitLimit); !met(); <-tick.C {
		if time.Now().After(deadline) {
			w.Fatalf("waited in vain until %s", what)
		}
	}
}
