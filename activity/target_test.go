package activity_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/events"
)

// written is the payload of what an actor has done last.
func (w *world) written(actor uuid.UUID) (last events.Activity) {
	w.Helper()
	for _, e := range w.recorded() {
		if e.Stream == actor && activity.KindOf(e.Type) != "" {
			var err error
			if last, err = events.ParseActivity(e.Data); err != nil {
				w.Fatal(err)
			}
		}
	}
	return last
}

// What the log says of the target is as it was when the act was written, and stays so
// when the target's standing changes.
func TestAnActivitySaysHowItsTargetStood(t *testing.T) {
	w := newWorld(t).run()
	eve, ann := w.newUser(), uuid.New()
	made := joined.Add(36 * time.Hour)
	w.tell(ann, events.UserRegistered, events.Registration{Sealed: []byte("sealed"), JoinedAt: made})
	bearer := w.token(eve)
	for i, step := range []struct {
		what, flag string
		hidden     bool
	}{
		{"", "", false},
		{events.UserMarkedFraudulent, "one", true},
		{events.UserMarkedFraudulent, "two", true},
		{events.UserCleared, "one", true},
		{events.UserCleared, "one", true},
		{events.UserCleared, "two", false},
		{events.UserMarkedFraudulent, "one", true},
	} {
		if step.what != "" {
			w.tell(ann, step.what, events.Standing{Flag: step.flag, Rule: "r"})
		}
		if err := w.service.CatchUp(w.context()); err != nil {
			t.Fatal(err)
		}
		// One by one, and in a batch.
		if rec := w.post(single, bearer, fmt.Sprintf(`{"type":"visit","target":%q}`, ann)); rec.Code != http.StatusCreated {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		one := w.written(eve)
		if r := w.replies(w.post(lines, bearer, fmt.Sprintf(`{"type":"like","target":%q}`, ann))); r[0].Status != http.StatusCreated {
			t.Fatalf("%+v", r)
		}
		for _, a := range []events.Activity{one, w.written(eve)} {
			if a.Target != ann || !a.JoinedAt.Equal(joined) || !a.TargetJoinedAt.Equal(made) || a.TargetHidden != step.hidden {
				t.Errorf("step %d: %+v, want a target hidden: %t", i, a, step.hidden)
			}
		}
	}
}

// What is sent again is answered with what was written first, however the target stands
// by then.
func TestAnActivityThatIsSentAgainKeepsWhatItSaidOfItsTarget(t *testing.T) {
	w := newWorld(t).run()
	eve, ann := w.newUser(), w.newUser()
	body := fmt.Sprintf(`{"type":"visit","target":%q,"id":%q}`, ann, uuid.New())
	w.reply(w.post(single, w.token(eve), body), http.StatusCreated)
	w.tell(ann, events.UserMarkedFraudulent, events.Standing{Flag: "one", Rule: "r"})
	if err := w.service.CatchUp(w.context()); err != nil {
		t.Fatal(err)
	}
	w.reply(w.post(single, w.token(eve), body), http.StatusOK)
	if a := w.written(eve); a.TargetHidden {
		t.Errorf("%+v", a)
	}
}

// A mark that cannot be read must not keep an account from being erased.
func TestAnErasureIsKnownBehindAMarkThatCannotBeRead(t *testing.T) {
	w := newWorld(t).run()
	eve, ann := w.newUser(), w.newUser()
	w.tell(ann, events.UserMarkedFraudulent, 7)
	w.tell(ann, events.UserErased, events.Erasure{By: "self"})
	w.reply(w.post(single, w.token(eve), fmt.Sprintf(`{"type":"visit","target":%q}`, w.newUser())), http.StatusCreated)
	w.reply(w.post(single, w.token(eve), fmt.Sprintf(`{"type":"visit","target":%q}`, ann)), http.StatusNotFound)
}
