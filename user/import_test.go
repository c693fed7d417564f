package user_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/user"
)

func importedAccounts(n int) []user.Imported {
	accounts := make([]user.Imported, n)
	first := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range accounts {
		accounts[i] = user.Imported{
			ID:     events.DeriveID(uuid.NameSpaceURL, fmt.Sprint(i)),
			Handle: fmt.Sprintf("imported-%d", i), DisplayName: fmt.Sprintf("Imported %d", i),
			JoinedAt: first.Add(time.Duration(i) * time.Minute),
		}
	}
	return accounts
}

// registered counts the accounts in the log.
func (w *world) registered() map[uuid.UUID]int {
	w.Helper()
	seen := make(map[uuid.UUID]int)
	for e, err := range log.Events(w.Context(), w.log, 0, 0) {
		w.must(err)
		seen[e.Stream]++
	}
	return seen
}

func TestImportedAccountsAreThereWithTheirNamesAndTimes(t *testing.T) {
	w := newWorld(t)
	accounts := importedAccounts(1100)
	w.must(w.service.Import(t.Context(), accounts))
	w.register("anna")
	access := w.signIn("anna", goodPassword).access
	for _, i := range []int{0, 511, 512, 1099} {
		a := accounts[i]
		equal(t, "name on the card", w.card(access, a.ID), a.DisplayName)
		e := w.stream(a.ID)[0]
		p, err := events.Unmarshal[events.Registration](e)
		w.must(err)
		if !p.JoinedAt.Equal(a.JoinedAt) || !e.OccurredAt.Equal(a.JoinedAt) || !p.Imported {
			t.Errorf("account %d joined at %v, its event occurred at %v; want %v, imported", i, p.JoinedAt, e.OccurredAt, a.JoinedAt)
		}
	}
	r := w.call(request{method: "POST", path: "/v1/users", body: registration("IMPORTED-7", nil)})
	equal(t, "fields of who wants the handle of an imported account", r.fields(), []string{"handle"})
}

func TestImportingAgainAddsNothing(t *testing.T) {
	w := newWorld(t)
	accounts := importedAccounts(1100)
	w.must(w.service.Import(t.Context(), accounts[:600]))
	w.must(w.service.Import(t.Context(), accounts))
	w.must(w.service.Import(t.Context(), accounts))
	// As after a restart: another writer, another service.
	writer := log.New(w.users, log.Options{Clock: w.clock.Now})
	t.Cleanup(writer.Close)
	w.must(w.instance(func(_ *user.Config, d *user.Deps) { d.Log = writer }).Import(t.Context(), append(accounts, accounts[0])))
	seen := w.registered()
	equal(t, "accounts", len(seen), len(accounts))
	for id, n := range seen {
		equal(t, "events of "+id.String(), n, 1)
	}
	w.register("anna")
	equal(t, "a name that was sealed by the first import", w.card(w.signIn("anna", goodPassword).access, accounts[3].ID), "Imported 3")
}

func TestImportsThatRunAtOnceMakeEachAccountOnce(t *testing.T) {
	w := newWorld(t)
	accounts := importedAccounts(700)
	errs := make([]error, 4)
	var wg sync.WaitGroup
	for i := range errs {
		writer := log.New(w.users, log.Options{Clock: w.clock.Now})
		t.Cleanup(writer.Close)
		s := w.instance(func(_ *user.Config, d *user.Deps) { d.Log = writer })
		wg.Go(func() { errs[i] = s.Import(t.Context(), accounts) })
	}
	wg.Wait()
	w.must(errors.Join(errs...))
	seen := w.registered()
	equal(t, "accounts", len(seen), len(accounts))
	w.register("anna")
	access := w.signIn("anna", goodPassword).access
	for _, a := range []user.Imported{accounts[0], accounts[300], accounts[699]} {
		equal(t, "events", seen[a.ID], 1)
		equal(t, "a name opens with the key that won", w.card(access, a.ID), a.DisplayName)
	}
}

func TestAccountsThatAreRefusedDoNotStopTheRest(t *testing.T) {
	w := newWorld(t)
	w.register("taken")
	good := importedAccounts(3)
	now := w.clock.Now()
	refused := []user.Imported{
		{ID: uuid.New(), Handle: "Taken", DisplayName: "x", JoinedAt: now},
		{ID: uuid.New(), Handle: "IMPORTED-1", DisplayName: "x", JoinedAt: now},
		{ID: uuid.New(), Handle: "!", DisplayName: "x", JoinedAt: now},
		{ID: uuid.New(), Handle: "admin", DisplayName: "x", JoinedAt: now},
		{ID: uuid.New(), Handle: "blank", DisplayName: "", JoinedAt: now},
		{ID: uuid.New(), Handle: "timeless", DisplayName: "x"},
		{Handle: "nobody", DisplayName: "x", JoinedAt: now},
	}
	var all []user.Imported
	all = append(all, good[:2]...)
	all = append(all, refused...)
	all = append(all, good[2])
	err := w.service.Import(t.Context(), all)
	list, ok := errors.AsType[*user.ImportError](err)
	if !ok {
		t.Fatalf("%v, want an ImportError", err)
	}
	want := make(map[uuid.UUID]bool)
	for _, a := range refused {
		want[a.ID] = true
	}
	got := make(map[uuid.UUID]bool)
	for _, r := range list.Refused {
		got[r.ID] = true
	}
	equal(t, "who was refused", got, want)
	if !strings.Contains(err.Error(), fmt.Sprint(len(refused))) {
		t.Errorf("%q does not say how many", err)
	}
	seen := w.registered()
	equal(t, "accounts", len(seen), len(good)+1)
	for _, a := range good {
		equal(t, "events of a good one", seen[a.ID], 1)
	}
}

func TestAnImportDoesNotBringBackWhoWasErased(t *testing.T) {
	w := newWorld(t)
	id := w.register("anna")
	w.want(http.StatusNoContent, w.call(request{method: "DELETE", path: "/v1/me", bearer: w.signIn("anna", goodPassword).access}))
	w.must(w.service.Import(t.Context(), []user.Imported{{ID: id, Handle: "anna2", DisplayName: "Anna", JoinedAt: w.clock.Now()}}))
	equal(t, "events", types(w.stream(id)), []string{events.UserRegistered, events.UserErased})
	keys, err := w.vault.Keys(t.Context(), id)
	w.must(err)
	equal(t, "keys", len(keys), 0)
}

func BenchmarkImport(b *testing.B) {
	const n = 10_000
	accounts := importedAccounts(n)
	for b.Loop() {
		b.StopTimer()
		w := newWorld(b)
		b.StartTimer()
		w.must(w.service.Import(b.Context(), accounts))
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "accounts/s")
}
