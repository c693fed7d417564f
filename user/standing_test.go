package user_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/user"
)

func (w *world) caseOf(access string, id uuid.UUID) response {
	w.Helper()
	return w.call(request{method: "GET", path: "/internal/users/" + id.String(), bearer: access})
}

func (w *world) status(access string) string {
	w.Helper()
	return w.want(http.StatusOK, w.call(request{method: "GET", path: "/v1/me", bearer: access})).text("status")
}

func TestAUserIsFraudulentWhileAConfirmedFlagIsNotOverturned(t *testing.T) {
	w := newWorld(t, withAdmin)
	admin := w.admin()
	anna := w.register("anna")
	access := w.signIn("anna", goodPassword).access
	one, two := uuid.New(), uuid.New()
	for _, step := range []struct {
		what string
		flag uuid.UUID
		want string
	}{
		{events.FlagRaised, one, "active"},
		{events.FlagConfirmed, one, "fraudulent"},
		{events.FlagAppealed, one, "fraudulent"},
		{events.FlagUpheld, one, "fraudulent"},
		{events.FlagConfirmed, two, "fraudulent"},
		{events.FlagOverturned, one, "fraudulent"},
		{events.FlagOverturned, two, "active"},
		{events.FlagDismissed, uuid.New(), "active"},
		{events.FlagConfirmed, one, "fraudulent"},
	} {
		w.decide(step.what, step.flag, anna)
		w.catchUp()
		equal(t, "status after "+step.what, w.status(access), step.want)
	}
	equal(t, "events", types(w.stream(anna)), []string{
		events.UserRegistered, events.UserMarkedFraudulent, events.UserMarkedFraudulent,
		events.UserCleared, events.UserCleared, events.UserMarkedFraudulent,
	})
	r := w.want(http.StatusOK, w.caseOf(admin.access, anna))
	w.golden("case", r, map[string]string{anna.String(): "<anna>", one.String(): "<flag>"})
}

func TestADecisionThatIsDeliveredAgainChangesNothing(t *testing.T) {
	w := newWorld(t)
	anna, flag := w.register("anna"), uuid.New()
	access := w.signIn("anna", goodPassword).access
	confirmed := w.decide(events.FlagConfirmed, flag, anna)
	w.decide(events.FlagOverturned, flag, anna)
	// Instances that do not know how far the others have come: each works through
	// the log from its beginning.
	for range 3 {
		w.service = w.instance(ownCheckpoints)
		stop := w.run(w.service)
		w.catchUp()
		stop()
	}
	evs := w.stream(anna)
	equal(t, "events", types(evs), []string{events.UserRegistered, events.UserMarkedFraudulent, events.UserCleared})
	equal(t, "ID of the mark", evs[1].ID, events.DeriveID(confirmed, "standing"))
	equal(t, "status", w.status(access), "active")
}

func TestOfTwoInstancesThatSeeADecisionOneAppendsIt(t *testing.T) {
	w := newWorld(t)
	anna := w.register("anna")
	for range 20 {
		w.decide(events.FlagConfirmed, uuid.New(), anna)
	}
	first, second := w.instance(ownCheckpoints), w.instance(ownCheckpoints)
	w.run(first)
	w.run(second)
	for _, s := range []*user.Service{first, second} {
		w.service = s
		w.catchUp()
	}
	equal(t, "events", len(w.stream(anna)), 21)
}

func TestADecisionOnSomebodyUnknownHoldsNothingUp(t *testing.T) {
	w := newWorld(t)
	anna := w.register("anna")
	access := w.signIn("anna", goodPassword).access
	w.decide(events.FlagConfirmed, uuid.New(), uuid.New())
	w.decide(events.FlagConfirmed, uuid.New(), anna)
	w.run(w.service)
	w.catchUp()
	equal(t, "status", w.status(access), "fraudulent")
}

func TestAnErasedCheatIsMarkedAllTheSame(t *testing.T) {
	w := newWorld(t, withAdmin)
	admin := w.admin()
	anna, flag := w.register("anna"), uuid.New()
	w.want(http.StatusNoContent, w.call(request{method: "DELETE", path: "/v1/me", bearer: w.signIn("anna", goodPassword).access}))
	w.decide(events.FlagConfirmed, flag, anna)
	w.catchUp()
	equal(t, "events", types(w.stream(anna)), []string{events.UserRegistered, events.UserErased, events.UserMarkedFraudulent})
	r := w.want(http.StatusOK, w.caseOf(admin.access, anna))
	w.golden("case_erased", r, map[string]string{anna.String(): "<anna>", flag.String(): "<flag>"})
}

func TestTheCaseOfSomebodyUnknownIsNotFound(t *testing.T) {
	w := newWorld(t, withAdmin)
	admin := w.admin()
	w.want(http.StatusNotFound, w.caseOf(admin.access, uuid.New()))
	r := w.want(http.StatusUnprocessableEntity, w.call(request{method: "GET", path: "/internal/users/x", bearer: admin.access}))
	if !strings.Contains(r.text("title"), "Invalid") {
		t.Errorf("problem %s", r.raw)
	}
}
