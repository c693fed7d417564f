package fraud_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/service/vault/boltvault"
)

// erase writes that somebody has erased their account, as the user service does.
func (w *world) erase(who uuid.UUID) {
	w.Helper()
	data, err := json.Marshal(events.Erasure{By: who.String()})
	if err != nil {
		w.Fatal(err)
	}
	e := events.Event{ID: uuid.New(), Type: events.UserErased, Stream: who, Version: 1, OccurredAt: w.clock.Now(), Data: data}
	if _, err := w.users.Append(context.Background(), e); err != nil {
		w.Fatal(err)
	}
}

func (r *running) note(id uuid.UUID, text string) answer {
	r.Helper()
	return r.ask("POST", "/v1/moderation/flags/"+id.String()+"/notes", fmt.Sprintf(`{"text":%q}`, text), moderator, "moderator")
}

func (r *running) appeal(f flagged, text string) answer {
	r.Helper()
	return r.ask("POST", "/v1/me/appeals", fmt.Sprintf(`{"flag":%q,"text":%q}`, f.ID, text), f.User)
}

// said are the texts of a flag's history and notes, "(erased)" for those that are gone.
func said(f flagged) (all []string) {
	say := func(text string, erased bool) {
		switch {
		case erased && text == "":
			all = append(all, "(erased)")
		case erased:
			all = append(all, "(erased) and yet "+text)
		case text != "":
			all = append(all, text)
		}
	}
	for _, h := range f.History {
		say(h.Note, h.Erased)
	}
	for _, n := range f.Notes {
		say(n.Text, n.Erased)
	}
	return all
}

// operations are what bulk operations say, the latest first: in the list, and each by
// itself.
func (r *running) operations() (listed, shown []string) {
	r.Helper()
	type one struct {
		ID     uuid.UUID
		Note   string
		Erased bool
		Undone *struct {
			Note   string
			Erased bool
		}
	}
	say := func(o one) string {
		text := fmt.Sprintf("%s %t", o.Note, o.Erased)
		if o.Undone != nil {
			text += fmt.Sprintf("; %s %t", o.Undone.Note, o.Undone.Erased)
		}
		return text
	}
	var page struct{ Items []one }
	r.ask("GET", "/v1/moderation/bulk", "", moderator, "moderator").want(r, http.StatusOK).into(r, &page)
	for _, o := range page.Items {
		listed = append(listed, say(o))
		var whole one
		r.ask("GET", "/v1/moderation/bulk/"+o.ID.String(), "", moderator, "moderator").want(r, http.StatusOK).into(r, &whole)
		shown = append(shown, say(whole))
	}
	return listed, shown
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestWhatIsWrittenAboutAUserEndsWithThem(t *testing.T) {
	one, items := withFlags(t, 3)
	two := one.run(likesRule("three-likes", 3, 40)) // shares logs and vault
	anna, bert, carl := items[0], items[1], items[2]

	both := one.bulk(`{"ids":[%q,%q],"decision":"escalate","note":"two of a kind"}`, anna.ID, bert.ID)
	two.ask("POST", "/v1/moderation/bulk/"+both.ID.String()+"/undo", `{"note":"not of a kind"}`, moderator, "moderator").want(t, http.StatusOK)
	one.note(anna.ID, "seen in Lisbon").want(t, http.StatusOK)
	one.decide(anna.ID, "confirm").want(t, http.StatusOK)
	two.appeal(anna, "I was in Lisbon").want(t, http.StatusCreated)
	two.note(carl.ID, "seen in Oporto").want(t, http.StatusOK)
	one.bulk(`{"ids":[%q],"decision":"dismiss","note":"nothing to see"}`, carl.ID)

	texts := []string{"two of a kind", "not of a kind", "seen in Lisbon", "I was in Lisbon", "seen in Oporto", "nothing to see", `"seen"`}
	keys, err := one.keys.Keys(t.Context(), anna.User)
	if err != nil || len(keys) != 1 {
		t.Fatalf("her keys: %v, %v", keys, err)
	}
	key := keys[anna.User]
	if !bytes.Contains(one.contents("fraud-keys.db"), key[:]) {
		t.Fatal("her key is not in the file: this test cannot see it go")
	}
	check := func(when string, r *running, ofAnna []string, twoOfAKind string) {
		t.Helper()
		same(t, when+": what is said of Anna", said(r.flag(anna.ID)), ofAnna)
		// What was said of several is still said of the others, as it was said of each.
		same(t, when+": what is said of Bert", said(r.flag(bert.ID)), []string{"two of a kind", "not of a kind"})
		same(t, when+": what is said of Carl", said(r.flag(carl.ID)), []string{"seen in Oporto", "nothing to see", "seen in Oporto"})
		listed, shown := r.operations()
		same(t, when+": what operations say", shown, []string{"nothing to see false", twoOfAKind})
		same(t, when+": what operations say in the list", listed, shown)
	}
	all := []string{"two of a kind", "not of a kind", "seen in Lisbon", "seen", "I was in Lisbon", "seen in Lisbon"}
	for _, r := range []*running{one, two} {
		r.catchUp()
		check("before", r, all, "two of a kind false; not of a kind false")
	}
	before := one.flag(anna.ID)

	one.erase(anna.User)
	for _, r := range []*running{one, two} {
		r.catchUp()
		check("after", r, slices.Repeat([]string{"(erased)"}, len(all)), " true;  true")
	}
	// Nothing else has changed.
	after := one.flag(anna.ID)
	for i := range before.History {
		before.History[i].Note, before.History[i].Erased = "", true
		after.History[i].Note, after.History[i].Erased = "", true
	}
	before.Notes, after.Notes = nil, nil
	same(t, "the flag but for what was said", after, before)

	one.stop()
	two.stop()
	one = one.run(likesRule("three-likes", 3, 40))
	check("after a restart", one, slices.Repeat([]string{"(erased)"}, len(all)), " true;  true")
	until(t, "the key is out of the file", func() bool { return !bytes.Contains(one.contents("fraud-keys.db"), key[:]) })
	for _, file := range []string{"log.db", "fraud.db", "fraud-keys.db"} {
		for _, text := range texts {
			if bytes.Contains(one.contents(file), []byte(text)) {
				t.Errorf("%s holds %q", file, text)
			}
		}
	}
}

// contents are the bytes of one of the world's files.
func (w *world) contents(name string) []byte {
	w.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.Fatal(err)
	}
	return b
}

// stubborn is a vault that erases nobody, as before the erasure is worked through, or
// says that it has not, so many times, although it has: a process that is killed in
// between.
type stubborn struct {
	vault.Vault
	refuses bool
	forgets atomic.Int32
	erased  atomic.Int32
	tidied  atomic.Int32
}

func (s *stubborn) Tidy(ctx context.Context, now time.Time) error {
	s.tidied.Add(1)
	return s.Vault.Tidy(ctx, now)
}

func (s *stubborn) Erase(ctx context.Context, who uuid.UUID) error {
	if s.refuses {
		return fmt.Errorf("test: %w", vault.ErrUnavailable)
	}
	if err := s.Vault.Erase(ctx, who); err != nil {
		return err
	}
	s.erased.Add(1)
	if s.forgets.Add(-1) >= 0 {
		return errors.New("killed before it was on record")
	}
	return nil
}

func TestNothingIsWrittenAboutTheErased(t *testing.T) {
	s, items := withFlags(t, 3)
	anna, bert := items[0], items[1]
	s.note(anna.ID, "before").want(t, http.StatusOK)
	s.stop()
	// What refuses is the user log, at once, and not the vault, which comes later.
	late := &stubborn{Vault: s.keys, refuses: true}
	s.vault = late
	r := s.run(likesRule("three-likes", 3, 40))
	r.erase(anna.User)
	const gone = "erased their account"
	refused := func(a answer, status int) {
		t.Helper()
		if a.status != status || !strings.Contains(string(a.body), gone) {
			t.Errorf("%d %s, want %d and that they have %s", a.status, a.body, status, gone)
		}
	}
	refused(r.note(anna.ID, "after"), http.StatusConflict)
	refused(r.decide(anna.ID, "confirm"), http.StatusConflict)
	path := "/v1/moderation/flags/" + anna.ID.String() + "/decision"
	r.ask("POST", path, `{"decision":"confirm"}`, moderator, "moderator").want(t, http.StatusOK)
	refused(r.appeal(anna, "after"), http.StatusNotFound)
	if keys, err := r.keys.Keys(t.Context(), anna.User); err != nil || len(keys) != 1 {
		t.Fatalf("keys %v, %v: the vault was to be late", keys, err)
	}
	r.stop()

	s.vault = s.keys
	r = s.run(likesRule("three-likes", 3, 40))
	refused(r.note(anna.ID, "later"), http.StatusConflict)
	refused(r.appeal(anna, "later"), http.StatusNotFound)
	same(t, "what is said of her", said(r.flag(anna.ID)), []string{"(erased)", "(erased)"})

	// Of many, those are left who are erased, if there is something to say.
	body := fmt.Sprintf(`{"ids":[%q,%q],"decision":"overturn","note":"all of them","dry_run":%%t}`, anna.ID, bert.ID)
	r.decide(bert.ID, "confirm").want(t, http.StatusOK)
	r.catchUp()
	for _, dry := range []bool{true, false} {
		o := r.bulk(body, dry)
		if o.Changed != 1 || len(o.Refused) != 1 || o.Refused[0].ID != anna.ID || o.Refused[0].Status != http.StatusConflict || !strings.Contains(o.Refused[0].Detail, gone) {
			t.Errorf("dry run %t: %+v", dry, o)
		}
	}
	if keys, err := r.keys.Keys(t.Context(), anna.User); err != nil || len(keys) != 0 {
		t.Errorf("her key is back: %v, %v", keys, err)
	}
	silent := r.bulk(`{"ids":[%q],"decision":"overturn"}`, anna.ID)
	if silent.Changed != 1 {
		t.Errorf("without a note: %+v", silent)
	}
	// An undoing goes through, without a word about her.
	u := r.undo(silent.ID).want(t, http.StatusOK)
	var undone operation
	u.into(t, &undone)
	if undone.Undone == nil || undone.Undone.Changed != 1 {
		t.Errorf("undone: %s", u.body)
	}
	if f := r.flag(anna.ID); f.State != "confirmed" || f.History[len(f.History)-1].Note != "" {
		t.Errorf("after the undoing: %+v", f)
	}
}

func TestAnErasureIsWorkedThroughHoweverItWasCutOff(t *testing.T) {
	s, items := withFlags(t, 3)
	anna, bert := items[0], items[1]
	for _, f := range []flagged{anna, bert} {
		s.note(f.ID, "a note").want(t, http.StatusOK)
	}
	s.stop()
	s.erase(anna.User) // while nothing runs
	killed := &stubborn{Vault: s.keys}
	killed.forgets.Store(2)
	s.vault = killed
	r := s.run(likesRule("three-likes", 3, 40))
	if n := killed.erased.Load(); n < 3 {
		t.Errorf("erased %d times: it was to be interrupted twice", n)
	}
	same(t, "what is said of Anna", said(r.flag(anna.ID)), []string{"(erased)", "(erased)"})
	same(t, "what is said of Bert", said(r.flag(bert.ID)), []string{"a note", "a note"})
	until(t, "the vault is tidied, so that no free page holds the key", func() bool { return killed.tidied.Load() > 0 })
	r.stop()

	// Who starts again does not go over it all once more.
	before := killed.erased.Load()
	r = s.run(likesRule("three-likes", 3, 40))
	if n := killed.erased.Load(); n != before {
		t.Errorf("erased %d times more at a restart", n-before)
	}
	same(t, "what is said of Anna", said(r.flag(anna.ID)), []string{"(erased)", "(erased)"})
}

// What earlier builds wrote is in the log for good. It is read, and not shown once its
// user is erased.
func TestTextsOfEarlierBuildsAreShownUntilTheErasure(t *testing.T) {
	s, items := withFlags(t, 2)
	anna := items[0]
	bulk := uuid.New()
	payloads := []struct {
		eventType string
		payload   any
	}{
		{events.FlagNoted, events.Note{By: moderator, Text: "an old note"}},
		{events.FlagConfirmed, events.Decision{User: anna.User, Rule: anna.Rule, By: moderator, Note: "an old reason"}},
		{events.FlagAppealed, events.Appeal{User: anna.User, Text: "an old appeal"}},
		{events.FlagOverturned, events.Decision{User: anna.User, Rule: anna.Rule, By: moderator, Note: "an old bulk", Bulk: &bulk}},
		{events.DecisionUndone, events.UndoneDecision{User: anna.User, Rule: anna.Rule, By: moderator, Note: "an old undo", Bulk: bulk, Undoes: "overturn", Standpoint: events.Standpoint{State: "appealed"}}},
		{events.BulkDecided, events.BulkDecision{By: moderator, Decision: "overturn", Note: "an old bulk", Flags: []events.BulkFlag{{Flag: anna.ID, Version: 5, Before: events.Standpoint{State: "appealed"}}}, Refused: []events.BulkRefusal{}}},
		{events.BulkUndone, events.BulkUndo{By: moderator, Note: "an old undo", Flags: []uuid.UUID{anna.ID}, Refused: []events.BulkRefusal{}}},
	}
	for i, p := range payloads {
		data, err := json.Marshal(p.payload)
		if err != nil {
			t.Fatal(err)
		}
		e := events.Event{ID: uuid.New(), Type: p.eventType, Stream: anna.ID, Version: uint64(i + 2), OccurredAt: start, Data: data}
		if i >= 5 {
			e.Stream, e.Version = bulk, uint64(i-4)
		}
		if _, err := s.fraud.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	s.catchUp()
	all := []string{"an old note", "an old reason", "an old appeal", "an old bulk", "an old undo", "an old note"}
	same(t, "what is said", said(s.flag(anna.ID)), all)
	listed, shown := s.operations()
	same(t, "what the operation says", shown, []string{"an old bulk false; an old undo false"})
	same(t, "what it says in the list", listed, shown)
	s.erase(anna.User)
	s.catchUp()
	same(t, "what is said after the erasure", said(s.flag(anna.ID)), slices.Repeat([]string{"(erased)"}, len(all)))
	listed, shown = s.operations()
	same(t, "what the operation says after the erasure", shown, []string{" true;  true"})
	same(t, "what it says in the list after the erasure", listed, shown)
}

// A vault that was lost, or is older than the log, loses texts and nothing else.
func TestTextsOfALostVaultAreGoneAndNewOnesAreNot(t *testing.T) {
	s, items := withFlags(t, 2)
	anna, bert := items[0], items[1]
	for _, f := range []flagged{anna, bert} {
		s.note(f.ID, "before the loss").want(t, http.StatusOK)
	}
	s.bulk(`{"ids":[%q],"decision":"escalate","note":"before the loss"}`, anna.ID)
	s.stop()
	s.erase(bert.User)
	other, err := boltvault.Open(filepath.Join(t.TempDir(), "fraud-keys.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	})
	s.vault = other
	r := s.run(likesRule("three-likes", 3, 40))
	same(t, "what is said of Anna", said(r.flag(anna.ID)), []string{"(erased)", "(erased)", "(erased)"})
	r.note(anna.ID, "after the loss").want(t, http.StatusOK)
	same(t, "what is said of Anna", said(r.flag(anna.ID)), []string{"(erased)", "(erased)", "after the loss", "(erased)", "after the loss"})
	r.note(bert.ID, "after the loss").want(t, http.StatusConflict)
	listed, shown := r.operations()
	same(t, "what the operation says", shown, []string{" true"})
	same(t, "what it says in the list", listed, shown)
	r.stop()
}

func TestWithoutTheVaultTextsAreNeitherReadNorWritten(t *testing.T) {
	s, items := withFlags(t, 2)
	s.note(items[0].ID, "a note").want(t, http.StatusOK)
	s.stop()
	down := &unavailableVault{Vault: s.keys}
	s.vault = down
	r := s.run(likesRule("three-likes", 3, 40))
	down.down.Store(true)
	for _, a := range []answer{
		r.note(items[1].ID, "another"), r.decide(items[1].ID, "confirm"),
		r.ask("GET", "/v1/moderation/flags/"+items[0].ID.String(), "", moderator, "moderator"),
		r.ask("POST", "/v1/moderation/bulk", fmt.Sprintf(`{"ids":[%q],"decision":"dismiss","note":"x"}`, items[1].ID), moderator, "moderator"),
	} {
		a.want(t, http.StatusServiceUnavailable)
		if a.header.Get("Retry-After") == "" {
			t.Errorf("no Retry-After: %s", a.body)
		}
	}
	if f := r.fraudEvents(r.fraud, events.FlagConfirmed); len(f) > 0 {
		t.Errorf("it was decided all the same: %+v", f)
	}
	// What needs no words needs no vault.
	r.flags("")
	r.ask("GET", "/v1/moderation/flags/"+items[1].ID.String(), "", moderator, "moderator").want(t, http.StatusOK)
	path := "/v1/moderation/flags/" + items[1].ID.String() + "/decision"
	r.ask("POST", path, `{"decision":"confirm"}`, moderator, "moderator").want(t, http.StatusOK)
}

type unavailableVault struct {
	vault.Vault
	down atomic.Bool
}

func (u *unavailableVault) KeepKeys(ctx context.Context, keys map[uuid.UUID]vault.Key) (map[uuid.UUID]vault.Key, error) {
	if u.down.Load() {
		return nil, fmt.Errorf("test: %w", vault.ErrUnavailable)
	}
	return u.Vault.KeepKeys(ctx, keys)
}

func (u *unavailableVault) Keys(ctx context.Context, ids ...uuid.UUID) (map[uuid.UUID]vault.Key, error) {
	if u.down.Load() && len(ids) > 0 {
		return nil, fmt.Errorf("test: %w", vault.ErrUnavailable)
	}
	return u.Vault.Keys(ctx, ids...)
}

// written is a flag of which the model knows what was written about it, in order.
type written struct {
	flagged
	erased, escalated bool
	texts             []string
}

// spoken is a bulk operation of the model: what it says, and about whom.
type spoken struct {
	id           uuid.UUID
	flags        []*written // that it has escalated
	text, undone string
	about        [2][]*written // of the operation, and of its undoing
}

func shownOf(text string, about []*written) string {
	if text != "" && slices.ContainsFunc(about, func(w *written) bool { return w.erased }) {
		return " true"
	}
	return text + " false"
}

// TestAReplayKnowsNoMoreThanTheLiveState writes about users at random, erases some at
// random moments and restarts the service in between. What is said must be what a model
// knows, and what a service says that begins from nothing.
func TestAReplayKnowsNoMoreThanTheLiveState(t *testing.T) {
	w := newWorld(t)
	rules := likesRule("three-likes", 3, 40)
	s := w.run(rules)
	users := 0
	var everything []uuid.UUID
	rapid.Check(t, func(rt *rapid.T) {
		var flags []*written
		for range 3 {
			users++
			w.post(likes(user(users), 3, start.Add(time.Duration(users)*time.Minute))...)
		}
		s.catchUp()
		for n := users - 2; n <= users; n++ {
			found, _ := s.flags("?user=" + user(n).String())
			flags = append(flags, &written{flagged: found[0]})
			everything = append(everything, found[0].ID)
		}
		alive := func(of []*written) (alive []*written) {
			for _, f := range of {
				if !f.erased {
					alive = append(alive, f)
				}
			}
			return alive
		}
		var ops []*spoken
		text := rapid.StringMatching(`[a-zA-Zß-ü "<&]{0,20}[a-zé]`)
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			f := rapid.SampledFrom(flags).Draw(rt, "flag")
			switch rapid.SampledFrom([]string{"note", "note", "note", "bulk", "undo", "undo", "erase", "erase", "restart"}).Draw(rt, "step") {
			case "note":
				text := text.Draw(rt, "text")
				want := http.StatusOK
				if f.erased {
					want = http.StatusConflict
				} else {
					f.texts = append(f.texts, text)
				}
				if a := s.note(f.ID, text); a.status != want {
					rt.Fatalf("a note: %d %s, want %d", a.status, a.body, want)
				}
			case "bulk":
				op := &spoken{text: text.Draw(rt, "text"), about: [2][]*written{alive(flags)}}
				body, err := json.Marshal(map[string]any{"ids": []uuid.UUID{flags[0].ID, flags[1].ID, flags[2].ID}, "decision": "escalate", "note": op.text})
				if err != nil {
					rt.Fatal(err)
				}
				for _, f := range op.about[0] {
					if !f.escalated {
						f.escalated, f.texts, op.flags = true, append(f.texts, op.text), append(op.flags, f)
					}
				}
				done := s.bulk("%s", body)
				if done.Changed != len(op.flags) {
					rt.Fatalf("%d are escalated, want %d", done.Changed, len(op.flags))
				}
				op.id, ops = done.ID, append(ops, op)
			case "undo":
				i := slices.IndexFunc(ops, func(op *spoken) bool { return op.undone == "" })
				if i < 0 {
					continue
				}
				op := ops[i]
				op.undone, op.about[1] = "too hasty", alive(flags)
				for _, f := range op.flags {
					f.escalated = false
					if !f.erased {
						f.texts = append(f.texts, op.undone)
					}
				}
				s.undo(op.id).want(t, http.StatusOK)
			case "erase":
				if !f.erased {
					f.erased = true
					s.erase(f.User)
					s.catchUp()
				}
			case "restart":
				s.stop()
				s = w.run(rules)
			}
		}
		for _, f := range flags {
			want := f.texts
			if f.erased {
				want = slices.Repeat([]string{"(erased)"}, len(want))
			}
			got := s.flag(f.ID)
			got.Notes = nil // they are in the history, too
			if diff := cmp.Diff(want, said(got), cmpopts.EquateEmpty()); diff != "" {
				rt.Fatalf("what is said of a flag (-want +got):\n%s", diff)
			}
		}
		listed, shown := s.operations()
		for i, op := range slices.Backward(ops) {
			want := shownOf(op.text, op.about[0])
			if op.undone != "" {
				want += "; " + shownOf(op.undone, op.about[1])
			}
			at := len(ops) - 1 - i
			if listed[at] != want || shown[at] != want {
				rt.Fatalf("an operation says %q, in the list %q, want %q", shown[at], listed[at], want)
			}
		}
	})
	fresh := w.run(rules)
	for _, id := range everything {
		same(t, "the flag in a replay", fresh.flag(id), s.flag(id))
	}
	listed, shown := fresh.operations()
	wantListed, wantShown := s.operations()
	same(t, "operations in a replay", shown, wantShown)
	same(t, "operations in a replay, in the list", listed, wantListed)
}
