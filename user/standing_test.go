package user_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/service/vault"
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

// A decision that was part of a bulk operation can be taken back, and with it what
// it did to the account.
func TestADecisionThatIsUndoneTakesItsMarkAlong(t *testing.T) {
	w := newWorld(t)
	anna, flag := w.register("anna"), uuid.New()
	access := w.signIn("anna", goodPassword).access
	w.run(w.service)
	undo := func(decision string) {
		w.appendUndone(flag, events.UndoneDecision{User: anna, Rule: "meet5", By: uuid.New(), Bulk: uuid.New(), Undoes: decision})
	}
	for _, step := range []struct {
		what string
		do   func()
		want string
	}{
		{"a dismissal is undone", func() { undo("dismiss") }, "active"},
		{"confirmed", func() { w.decide(events.FlagConfirmed, flag, anna) }, "fraudulent"},
		{"an escalation is undone", func() { undo("escalate") }, "fraudulent"},
		{"the confirmation is undone", func() { undo("confirm") }, "active"},
		{"confirmed again", func() { w.decide(events.FlagConfirmed, flag, anna) }, "fraudulent"},
		{"overturned", func() { w.decide(events.FlagOverturned, flag, anna) }, "active"},
		{"that is undone", func() { undo("overturn") }, "fraudulent"},
		{"an uphold is undone", func() { undo("uphold") }, "fraudulent"},
	} {
		step.do()
		w.catchUp()
		equal(t, "status after "+step.what, w.status(access), step.want)
	}
	equal(t, "events", types(w.stream(anna)), []string{
		events.UserRegistered, events.UserMarkedFraudulent, events.UserCleared,
		events.UserMarkedFraudulent, events.UserCleared, events.UserMarkedFraudulent,
	})
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
		w.service = w.instance(ownLedger)
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
	first, second := w.instance(ownLedger), w.instance(ownLedger)
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

func TestADecisionThatCannotBeReadHoldsUpItsFlagOnly(t *testing.T) {
	w := newWorld(t)
	anna, broken := w.register("anna"), uuid.New()
	access := w.signIn("anna", goodPassword).access
	unreadable := w.appendDecision(events.FlagConfirmed, broken, []byte(`{"user":"nobody"}`))
	behind := w.decide(events.FlagConfirmed, broken, anna)
	other := w.decide(events.FlagConfirmed, uuid.New(), anna)
	w.run(w.service)
	w.catchUp()
	marks := func() (ids []uuid.UUID) {
		for _, e := range w.stream(anna)[1:] {
			ids = append(ids, e.ID)
		}
		return ids
	}
	standing := func(decision uuid.UUID) uuid.UUID { return events.DeriveID(decision, "standing") }
	equal(t, "marks", marks(), []uuid.UUID{standing(other)})

	at := subscription.Place{Group: "user-standing", Log: events.FraudLog}
	parked, err := w.vault.Ledger().Parked(t.Context(), at)
	w.must(err)
	equal(t, "parked events", len(parked), 2)
	for i, want := range []uuid.UUID{unreadable, behind} {
		equal(t, "parked event", parked[i].Event, want)
		equal(t, "its key", parked[i].Key, broken)
	}
	if parked[0].Reason == "" || parked[1].Reason != "" {
		t.Errorf("reasons %q and %q, want one for the first alone", parked[0].Reason, parked[1].Reason)
	}

	w.must(w.vault.Ledger().Order(t.Context(), at, parked[0].Sequence, subscription.Drop))
	w.eventually("what waited behind is handled", func() bool { return len(marks()) == 2 })
	equal(t, "marks", marks(), []uuid.UUID{standing(other), standing(behind)})
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

// refusing is a vault that does not erase while it is told so.
type refusing struct {
	vault.Vault
	down    atomic.Bool
	refused atomic.Int64
	erased  atomic.Int64
}

func (r *refusing) Erase(ctx context.Context, id uuid.UUID) error {
	if r.down.Load() {
		r.refused.Add(1)
		return vault.ErrUnavailable
	}
	err := r.Vault.Erase(ctx, id)
	if err == nil {
		r.erased.Add(1)
	}
	return err
}

// Most events ask nothing of the vault. That they are handled well while it is
// away does not mean that the erasures are to blame.
func TestAnOutageParksNoErasure(t *testing.T) {
	w := newWorld(t)
	down := &refusing{Vault: w.vault}
	w.register("anna")
	w.want(http.StatusNoContent, w.call(request{method: "DELETE", path: "/v1/me", bearer: w.signIn("anna", goodPassword).access}))
	for i := range 20 {
		w.register(fmt.Sprintf("other%d", i))
	}
	down.down.Store(true)
	w.run(w.instance(func(_ *user.Config, d *user.Deps) { d.Vault = down }))
	// Well beyond the number of failures at which a subscription looks for the one
	// to blame.
	w.eventually("the erasure was refused often", func() bool { return down.refused.Load() >= 7 })
	parked, err := w.vault.Ledger().Parked(t.Context(), subscription.Place{})
	w.must(err)
	if len(parked) > 0 {
		t.Errorf("parked: %#v", parked)
	}
	down.down.Store(false)
	w.eventually("the erasure is done", func() bool { return down.erased.Load() > 0 })
}
