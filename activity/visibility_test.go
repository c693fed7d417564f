package activity_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
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
// as a service without checkpoints does, and beside another instance.
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

// marks is checkpoints in memory.
type marks struct {
	mu sync.Mutex
	at map[string]uint64
}

func (m *marks) Load(_ context.Context, group, log string, partition int) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at[fmt.Sprint(group, log, partition)], nil
}

func (m *marks) Save(_ context.Context, group, log string, partition int, sequence uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := fmt.Sprint(group, log, partition)
	m.at[key] = max(m.at[key], sequence)
	return nil
}

// TestAnInstanceGoesOnWhereAnotherStopped: it has not seen the marks before its
// checkpoint, and still knows how the user stood.
func TestAnInstanceGoesOnWhereAnotherStopped(t *testing.T) {
	w := newWorld(t, func(d *activity.Deps) {
		// A checkpoint after the first mark: registered, marked a.
		d.Checkpoints = &marks{at: map[string]uint64{fmt.Sprint(activity.VisibilityGroup, events.UserLog, 0): 2}}
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
