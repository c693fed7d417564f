// Package vaulttest checks the promises of package vault on an adapter.
package vaulttest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/service/vault"
)

// racers is how many callers meet in the tests of concurrency.
const racers = 16

var now = time.Date(2026, 3, 4, 5, 6, 7, 890_123_000, time.UTC)

// Run checks a vault. open makes a new, empty one that ends with the test.
func Run(t *testing.T, open func(t *testing.T) vault.Vault) {
	for _, c := range []struct {
		name  string
		check func(t *testing.T, v vault.Vault)
	}{
		{"what is kept under a name is kept once", keepsOnce},
		{"of many who keep a value under one name all get the same", keepsOnceConcurrently},
		{"what is kept is found by how its name begins, until it is forgotten", forgets},
		{"a user is enrolled once, with key and password", enrolsOnce},
		{"of many who enrol one user one succeeds", enrolsOnceConcurrently},
		{"keys are kept in bulk and never replaced", keepsKeys},
		{"more users than the bound are refused", boundsKeys},
		{"erasing takes key, password and sessions, and no key comes back", erases},
		{"a user who was never known can be erased", erasesUnknown},
		{"a shared key is gone with the first of them", sharesKeys},
		{"no key is shared with who is erased", sharesNothingWithTheErased},
		{"a key that is shared while somebody is erased is kept or refused, and gone", sharesWhileErasing},
		{"a token is exchanged once, and its reuse ends the session", exchangesOnce},
		{"of many who exchange one token at most one succeeds, and the session ends", exchangesOnceConcurrently},
		{"a session that has expired is not found", expires},
		{"ending a session may be repeated", endsSessions},
		{"a user's sessions are listed as they were started and last used", listsSessions},
		{"all of a user's sessions end but one", endsAllButOne},
		{"a password is changed by whom the old one is known to", changesPassword},
		{"of many who change one password one succeeds", changesPasswordConcurrently},
		{"one session too many ends the oldest", boundsSessions},
		{"tidying drops what has expired and keeps the rest", tidies},
		{"the ledger remembers", ledger},
	} {
		t.Run(c.name, func(t *testing.T) { c.check(t, open(t)) })
	}
}

func keepsOnce(t *testing.T, v vault.Vault) {
	first := must(v.Keep(t.Context(), "secret", []byte("one")))(t)
	second := must(v.Keep(t.Context(), "secret", []byte("two")))(t)
	other := must(v.Keep(t.Context(), "other", []byte("three")))(t)
	equal(t, "what is kept", []string{string(first), string(second), string(other)}, []string{"one", "one", "three"})
}

func keepsOnceConcurrently(t *testing.T, v vault.Vault) {
	got := make([]string, racers)
	race(func(i int) {
		b, err := v.Keep(t.Context(), "secret", fmt.Appendf(nil, "of %d", i))
		if err != nil {
			t.Error(err)
		}
		got[i] = string(b)
	})
	for _, g := range got {
		equal(t, "what is kept", g, got[0])
	}
	if got[0] == "" {
		t.Error("nothing was kept")
	}
}

func forgets(t *testing.T, v vault.Vault) {
	for _, name := range []string{"key", "key-1", "key-2", "key-10", "kez-1"} {
		must(v.Keep(t.Context(), name, []byte("of "+name)))(t)
	}
	equal(t, "what is kept", must(v.Kept(t.Context(), "key-"))(t),
		map[string][]byte{"key-1": []byte("of key-1"), "key-2": []byte("of key-2"), "key-10": []byte("of key-10")})
	for range 2 {
		noError(t, v.Forget(t.Context(), "key-1", "key-2", "nothing"))
	}
	noError(t, v.Forget(t.Context()))
	equal(t, "what is left", must(v.Kept(t.Context(), "key-"))(t), map[string][]byte{"key-10": []byte("of key-10")})
	equal(t, "nothing", must(v.Kept(t.Context(), "x"))(t), map[string][]byte{})
	equal(t, "what is kept anew", string(must(v.Keep(t.Context(), "key-1", []byte("new")))(t)), "new")
}

func enrolsOnce(t *testing.T, v vault.Vault) {
	user := uuid.New()
	if _, err := v.PasswordHash(t.Context(), user); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("password of an unknown user: %v, want ErrNotFound", err)
	}
	noError(t, v.Enrol(t.Context(), user, key(1), "hash"))
	if err := v.Enrol(t.Context(), user, key(2), "other"); !errors.Is(err, vault.ErrExists) {
		t.Errorf("second enrolment: %v, want ErrExists", err)
	}
	equal(t, "password hash", must(v.PasswordHash(t.Context(), user))(t), "hash")
	equal(t, "keys", must(v.Keys(t.Context(), user, uuid.New()))(t), map[uuid.UUID]vault.Key{user: key(1)})
}

func enrolsOnceConcurrently(t *testing.T, v vault.Vault) {
	user := uuid.New()
	errs := make([]error, racers)
	race(func(i int) { errs[i] = v.Enrol(t.Context(), user, key(byte(i)), fmt.Sprint(i)) })
	won := -1
	for i, err := range errs {
		switch {
		case err == nil && won < 0:
			won = i
		case !errors.Is(err, vault.ErrExists):
			t.Errorf("enrolment %d: %v, want one to succeed and the others to get ErrExists", i, err)
		}
	}
	if won < 0 {
		t.Fatal("no enrolment succeeded")
	}
	equal(t, "password hash", must(v.PasswordHash(t.Context(), user))(t), fmt.Sprint(won))
	equal(t, "keys", must(v.Keys(t.Context(), user))(t), map[uuid.UUID]vault.Key{user: key(byte(won))})
}

func keepsKeys(t *testing.T, v vault.Vault) {
	enrolled, erased, a, b := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	noError(t, v.Enrol(t.Context(), enrolled, key(1), "hash"))
	noError(t, v.Enrol(t.Context(), erased, key(2), "hash"))
	noError(t, v.Erase(t.Context(), erased))
	first := must(v.KeepKeys(t.Context(), map[uuid.UUID]vault.Key{a: key(3)}))(t)
	equal(t, "the keys first kept", first, map[uuid.UUID]vault.Key{a: key(3)})

	want := map[uuid.UUID]vault.Key{enrolled: key(1), a: key(3), b: key(14)}
	kept := must(v.KeepKeys(t.Context(), map[uuid.UUID]vault.Key{enrolled: key(11), erased: key(12), a: key(13), b: key(14)}))(t)
	equal(t, "the keys that stand", kept, want)
	equal(t, "the keys read", must(v.Keys(t.Context(), enrolled, erased, a, b))(t), want)
	equal(t, "the password hash of the enrolled", must(v.PasswordHash(t.Context(), enrolled))(t), "hash")
	if _, err := v.PasswordHash(t.Context(), a); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("password of a user with a key alone: %v, want ErrNotFound", err)
	}
	equal(t, "the keys of nobody", must(v.Keys(t.Context()))(t), map[uuid.UUID]vault.Key{})
	equal(t, "no keys kept", must(v.KeepKeys(t.Context(), nil))(t), map[uuid.UUID]vault.Key{})
}

func boundsKeys(t *testing.T, v vault.Vault) {
	keys := make(map[uuid.UUID]vault.Key)
	ids := make([]uuid.UUID, vault.MaxKeys)
	for i := range ids {
		ids[i] = uuid.New()
		keys[ids[i]] = key(byte(i))
	}
	equal(t, "a full batch of keys", must(v.KeepKeys(t.Context(), keys))(t), keys)
	equal(t, "a full batch of keys, read", must(v.Keys(t.Context(), ids...))(t), keys)
	keys[uuid.New()] = key(0)
	if _, err := v.KeepKeys(t.Context(), keys); err == nil {
		t.Error("too many keys were kept")
	}
	if _, err := v.Keys(t.Context(), append(ids, uuid.New())...); err == nil {
		t.Error("too many keys were read")
	}
}

func erases(t *testing.T, v vault.Vault) {
	user, other := uuid.New(), uuid.New()
	for _, u := range []uuid.UUID{user, other} {
		noError(t, v.Enrol(t.Context(), u, key(1), "hash"))
	}
	gone, stays := session(user, 1), session(other, 2)
	noError(t, v.StartSession(t.Context(), gone))
	noError(t, v.StartSession(t.Context(), stays))
	for range 2 {
		noError(t, v.Erase(t.Context(), user))
	}
	equal(t, "keys", must(v.Keys(t.Context(), user, other))(t), map[uuid.UUID]vault.Key{other: key(1)})
	if _, err := v.PasswordHash(t.Context(), user); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("password of an erased user: %v, want ErrNotFound", err)
	}
	if err := v.Enrol(t.Context(), user, key(2), "again"); !errors.Is(err, vault.ErrExists) {
		t.Errorf("enrolment of an erased user: %v, want ErrExists", err)
	}
	if err := exchange(t, v, gone, 1, 3); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("session of an erased user: %v, want ErrNotFound", err)
	}
	noError(t, exchange(t, v, stays, 2, 3))
}

func erasesUnknown(t *testing.T, v vault.Vault) {
	user := uuid.New()
	noError(t, v.Erase(t.Context(), user))
	if err := v.Enrol(t.Context(), user, key(1), "hash"); !errors.Is(err, vault.ErrExists) {
		t.Errorf("enrolment of an erased user: %v, want ErrExists", err)
	}
	equal(t, "keys", must(v.KeepKeys(t.Context(), map[uuid.UUID]vault.Key{user: key(1)}))(t), map[uuid.UUID]vault.Key{})
}

func sharesKeys(t *testing.T, v vault.Vault) {
	a, b, c, own := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	ofAB, ofBC := uuid.New(), uuid.New()
	must(v.KeepKeys(t.Context(), map[uuid.UUID]vault.Key{a: key(1), b: key(2)}))(t)
	noError(t, v.KeepShared(t.Context(), ofAB, key(3), []uuid.UUID{a, b}))
	noError(t, v.KeepShared(t.Context(), ofBC, key(4), []uuid.UUID{b, c}))
	if err := v.KeepShared(t.Context(), ofAB, key(5), []uuid.UUID{c}); !errors.Is(err, vault.ErrExists) {
		t.Errorf("a second key under the same ID: %v, want ErrExists", err)
	}
	all := []uuid.UUID{a, b, c, ofAB, ofBC}
	equal(t, "keys", must(v.Keys(t.Context(), all...))(t), map[uuid.UUID]vault.Key{a: key(1), b: key(2), ofAB: key(3), ofBC: key(4)})
	for range 2 {
		noError(t, v.Erase(t.Context(), a))
		equal(t, "keys without a", must(v.Keys(t.Context(), all...))(t), map[uuid.UUID]vault.Key{b: key(2), ofBC: key(4)})
	}
	if err := v.KeepShared(t.Context(), ofAB, key(6), []uuid.UUID{b}); !errors.Is(err, vault.ErrExists) {
		t.Errorf("a key under the ID of one that is gone: %v, want ErrExists", err)
	}
	noError(t, v.Erase(t.Context(), c))
	equal(t, "keys without a and c", must(v.Keys(t.Context(), all...))(t), map[uuid.UUID]vault.Key{b: key(2)})
	equal(t, "the erased", must(v.Erased(t.Context(), a, b, c, own))(t), map[uuid.UUID]bool{a: true, c: true})
	equal(t, "the erased of nobody", must(v.Erased(t.Context()))(t), map[uuid.UUID]bool{})
	many := make([]uuid.UUID, vault.MaxKeys+1)
	if err := v.KeepShared(t.Context(), uuid.New(), key(7), many); err == nil {
		t.Error("a key was shared by too many")
	}
	if _, err := v.Erased(t.Context(), many...); err == nil {
		t.Error("too many were asked for")
	}
}

func sharesNothingWithTheErased(t *testing.T, v vault.Vault) {
	a, b, id := uuid.New(), uuid.New(), uuid.New()
	noError(t, v.Erase(t.Context(), b))
	if err := v.KeepShared(t.Context(), id, key(1), []uuid.UUID{a, b}); !errors.Is(err, vault.ErrErased) {
		t.Errorf("a key to share with the erased: %v, want ErrErased", err)
	}
	equal(t, "keys", must(v.Keys(t.Context(), id))(t), map[uuid.UUID]vault.Key{})
	noError(t, v.Erase(t.Context(), a))
	equal(t, "keys afterwards", must(v.Keys(t.Context(), id))(t), map[uuid.UUID]vault.Key{})
}

func sharesWhileErasing(t *testing.T, v vault.Vault) {
	var users, ids [racers]uuid.UUID
	for i := range users {
		users[i], ids[i] = uuid.New(), uuid.New()
	}
	race(func(i int) {
		if i%2 == 0 {
			if err := v.Erase(t.Context(), users[i]); err != nil {
				t.Error(err)
			}
			return
		}
		// With the one who is being erased and one who stays.
		err := v.KeepShared(t.Context(), ids[i], key(1), []uuid.UUID{users[i-1], users[i]})
		if err != nil && !errors.Is(err, vault.ErrErased) {
			t.Error(err)
		}
	})
	equal(t, "keys shared with the erased", must(v.Keys(t.Context(), ids[:]...))(t), map[uuid.UUID]vault.Key{})
}

func exchangesOnce(t *testing.T, v vault.Vault) {
	s := session(uuid.New(), 1)
	noError(t, v.StartSession(t.Context(), s))
	noError(t, exchange(t, v, s, 1, 2))
	noError(t, exchange(t, v, s, 2, 3))
	if err := exchange(t, v, s, 1, 4); !errors.Is(err, vault.ErrReused) {
		t.Errorf("reuse of the first token: %v, want ErrReused", err)
	}
	if err := exchange(t, v, s, 3, 5); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("the good token of an ended session: %v, want ErrNotFound", err)
	}
}

func exchangesOnceConcurrently(t *testing.T, v vault.Vault) {
	s := session(uuid.New(), 1)
	noError(t, v.StartSession(t.Context(), s))
	errs := make([]error, racers)
	race(func(i int) { errs[i] = exchange(t, v, s, 1, byte(10+i)) })
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, vault.ErrReused) && !errors.Is(err, vault.ErrNotFound):
			t.Error(err)
		}
	}
	equal(t, "how many exchanges succeeded", won, 1)
	if err := exchange(t, v, s, 2, 3); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("after all of that: %v, want ErrNotFound", err)
	}
}

func expires(t *testing.T, v vault.Vault) {
	s := session(uuid.New(), 1)
	noError(t, v.StartSession(t.Context(), s))
	last := s.ExpiresAt.Add(-time.Microsecond)
	noError(t, v.ExchangeToken(t.Context(), s.ID, digest(1), digest(2), last, last.Add(time.Hour)))
	if err := v.ExchangeToken(t.Context(), s.ID, digest(2), digest(3), last.Add(time.Hour), last.Add(2*time.Hour)); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("at the moment it expires: %v, want ErrNotFound", err)
	}
	if err := v.ExchangeToken(t.Context(), uuid.New(), digest(2), digest(3), now, now); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("an unknown session: %v, want ErrNotFound", err)
	}
}

func endsSessions(t *testing.T, v vault.Vault) {
	user := uuid.New()
	ended, stays := session(user, 1), session(user, 2)
	noError(t, v.StartSession(t.Context(), ended))
	noError(t, v.StartSession(t.Context(), stays))
	for range 2 {
		noError(t, v.EndSession(t.Context(), ended.ID))
	}
	if err := exchange(t, v, ended, 1, 3); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("an ended session: %v, want ErrNotFound", err)
	}
	noError(t, exchange(t, v, stays, 2, 3))
}

func listsSessions(t *testing.T, v vault.Vault) {
	user := uuid.New()
	first, second, over := session(user, 1), session(user, 2), session(user, 3)
	first.Agent, first.Address = "Firefox \u00fc", "192.0.2.0/24"
	second.StartedAt, second.UsedAt = now.Add(time.Minute), now.Add(time.Minute)
	over.ExpiresAt = now.Add(2 * time.Minute)
	for _, s := range []vault.Session{first, second, over, session(uuid.New(), 4)} {
		noError(t, v.StartSession(t.Context(), s))
	}
	later := now.Add(2 * time.Minute)
	noError(t, v.ExchangeToken(t.Context(), first.ID, digest(1), digest(5), later, later.Add(time.Hour)))
	first.UsedAt, first.ExpiresAt = later, later.Add(time.Hour)
	first.Token, second.Token = vault.Digest{}, vault.Digest{} // nobody needs them
	equal(t, "sessions", must(v.Sessions(t.Context(), user, later))(t), []vault.Session{second, first})
	equal(t, "nobody's", len(must(v.Sessions(t.Context(), uuid.New(), now))(t)), 0)

	long := session(user, 6)
	long.Agent = strings.Repeat("a", vault.MaxAgent+1)
	if err := v.StartSession(t.Context(), long); err == nil {
		t.Error("an agent that is too long was taken")
	}
}

func endsAllButOne(t *testing.T, v vault.Vault) {
	user := uuid.New()
	one, two, others := session(user, 1), session(user, 2), session(uuid.New(), 3)
	for _, s := range []vault.Session{one, two, others} {
		noError(t, v.StartSession(t.Context(), s))
	}
	for range 2 {
		noError(t, v.EndSessions(t.Context(), user, two.ID))
	}
	if err := exchange(t, v, one, 1, 4); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("an ended session: %v, want ErrNotFound", err)
	}
	noError(t, exchange(t, v, two, 2, 4))
	noError(t, v.EndSessions(t.Context(), user, uuid.Nil))
	if err := exchange(t, v, two, 4, 5); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("an ended session: %v, want ErrNotFound", err)
	}
	noError(t, exchange(t, v, others, 3, 4))
}

func changesPassword(t *testing.T, v vault.Vault) {
	user, without, erased := uuid.New(), uuid.New(), uuid.New()
	noError(t, v.Enrol(t.Context(), user, key(1), "old"))
	noError(t, v.Enrol(t.Context(), without, key(2), ""))
	noError(t, v.Erase(t.Context(), erased))
	noError(t, v.ChangePassword(t.Context(), user, "old", "new"))
	equal(t, "password hash", must(v.PasswordHash(t.Context(), user))(t), "new")
	equal(t, "keys", must(v.Keys(t.Context(), user))(t), map[uuid.UUID]vault.Key{user: key(1)})
	for _, c := range []struct {
		user uuid.UUID
		from string
	}{{user, "old"}, {user, ""}, {without, ""}, {erased, ""}, {erased, "old"}, {uuid.New(), ""}, {uuid.New(), "old"}} {
		if err := v.ChangePassword(t.Context(), c.user, c.from, "other"); !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("%s from %q: %v, want ErrNotFound", c.user, c.from, err)
		}
	}
	equal(t, "password hash", must(v.PasswordHash(t.Context(), user))(t), "new")
	equal(t, "keys of the erased", must(v.Keys(t.Context(), erased))(t), map[uuid.UUID]vault.Key{})
}

func changesPasswordConcurrently(t *testing.T, v vault.Vault) {
	user := uuid.New()
	noError(t, v.Enrol(t.Context(), user, key(1), "old"))
	errs := make([]error, racers)
	race(func(i int) { errs[i] = v.ChangePassword(t.Context(), user, "old", fmt.Sprint(i)) })
	won := -1
	for i, err := range errs {
		switch {
		case err == nil && won < 0:
			won = i
		case !errors.Is(err, vault.ErrNotFound):
			t.Errorf("change %d: %v, want one to succeed and the others to get ErrNotFound", i, err)
		}
	}
	equal(t, "password hash", must(v.PasswordHash(t.Context(), user))(t), fmt.Sprint(won))
}

func boundsSessions(t *testing.T, v vault.Vault) {
	user := uuid.New()
	sessions := make([]vault.Session, vault.MaxSessions+1)
	for i := range sessions {
		sessions[i] = session(user, 1)
		sessions[i].StartedAt = now.Add(time.Duration(i) * time.Second)
		noError(t, v.StartSession(t.Context(), sessions[i]))
	}
	if err := exchange(t, v, sessions[0], 1, 2); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("the oldest of too many sessions: %v, want ErrNotFound", err)
	}
	noError(t, exchange(t, v, sessions[1], 1, 2))
	noError(t, exchange(t, v, sessions[vault.MaxSessions], 1, 2))
}

func tidies(t *testing.T, v vault.Vault) {
	user, erased := uuid.New(), uuid.New()
	noError(t, v.Enrol(t.Context(), user, key(1), "hash"))
	noError(t, v.Enrol(t.Context(), erased, key(2), "hash"))
	noError(t, v.Erase(t.Context(), erased))
	kept := must(v.Keep(t.Context(), "secret", []byte("value")))(t)
	old, good := session(user, 1), session(user, 2)
	old.ExpiresAt = now
	noError(t, v.StartSession(t.Context(), old))
	noError(t, v.StartSession(t.Context(), good))
	at := subscription.Place{Group: "group", Log: "log"}
	noError(t, v.Ledger().Save(t.Context(), subscription.Checkpoint{Place: at, Sequence: 7}))
	noError(t, v.Ledger().Park(t.Context(), subscription.Parked{Place: at, Sequence: 3}))
	for range 2 {
		noError(t, v.Tidy(t.Context(), now))
	}
	// Before its end, so that only its having been dropped can be the reason.
	if err := v.ExchangeToken(t.Context(), old.ID, digest(1), digest(3), now.Add(-time.Hour), now); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("the expired session: %v, want ErrNotFound", err)
	}
	noError(t, exchange(t, v, good, 2, 3))
	equal(t, "keys", must(v.Keys(t.Context(), user, erased))(t), map[uuid.UUID]vault.Key{user: key(1)})
	equal(t, "what is kept", must(v.Keep(t.Context(), "secret", []byte("other")))(t), kept)
	equal(t, "checkpoint", must(v.Ledger().Load(t.Context(), at))(t).Sequence, 7)
	equal(t, "parked events", len(must(v.Ledger().Parked(t.Context(), at))(t)), 1)
}

// ledgertest has the promises of ledgers; this is that the vault has one.
func ledger(t *testing.T, v vault.Vault) {
	at := subscription.Place{Group: "group", Log: "log", Partition: 1}
	equal(t, "the first checkpoint", must(v.Ledger().Load(t.Context(), at))(t), subscription.Checkpoint{Place: at})
	for _, sequence := range []uint64{5, 9, 3} {
		noError(t, v.Ledger().Save(t.Context(), subscription.Checkpoint{Place: at, Sequence: sequence}))
	}
	equal(t, "the checkpoint", must(v.Ledger().Load(t.Context(), at))(t).Sequence, 9)
	noError(t, v.Ledger().Park(t.Context(), subscription.Parked{Place: at, Sequence: 4, Reason: "why"}))
	equal(t, "the reason", must(v.Ledger().Parked(t.Context(), at))(t)[0].Reason, "why")
}

func key(b byte) (k vault.Key) {
	k[0], k[31] = b, 0xff
	return k
}

func digest(b byte) (d vault.Digest) {
	d[0], d[31] = b, 0xff
	return d
}

func session(user uuid.UUID, token byte) vault.Session {
	return vault.Session{ID: uuid.New(), User: user, Token: digest(token), StartedAt: now, UsedAt: now, ExpiresAt: now.Add(time.Hour)}
}

func exchange(t *testing.T, v vault.Vault, s vault.Session, given, next byte) error {
	t.Helper()
	return v.ExchangeToken(t.Context(), s.ID, digest(given), digest(next), now, now.Add(time.Hour))
}

// race calls do for each racer, all at once.
func race(do func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range racers {
		wg.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	wg.Wait()
}

// must hands on a result once the test knows that there was no error.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		noError(t, err)
		return v
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
