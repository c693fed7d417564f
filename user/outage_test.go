package user_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/user"
)

var errGone = errors.New("the server is gone")

// outage takes a vault and a log's store away, and gives them back.
type outage struct{ on atomic.Bool }

func (o *outage) err() error {
	if o.on.Load() {
		return errGone
	}
	return nil
}

type flakyVault struct {
	vault.Vault
	*outage
}

func (v flakyVault) err() error {
	if v.outage.err() != nil {
		return fmt.Errorf("%w: %w", vault.ErrUnavailable, errGone)
	}
	return nil
}

func (v flakyVault) Keep(ctx context.Context, name string, value []byte) ([]byte, error) {
	if err := v.err(); err != nil {
		return nil, err
	}
	return v.Vault.Keep(ctx, name, value)
}

func (v flakyVault) Kept(ctx context.Context, prefix string) (map[string][]byte, error) {
	if err := v.err(); err != nil {
		return nil, err
	}
	return v.Vault.Kept(ctx, prefix)
}

func (v flakyVault) Keys(ctx context.Context, ids ...uuid.UUID) (map[uuid.UUID]vault.Key, error) {
	if err := v.err(); err != nil {
		return nil, err
	}
	return v.Vault.Keys(ctx, ids...)
}

func (v flakyVault) PasswordHash(ctx context.Context, id uuid.UUID) (string, error) {
	if err := v.err(); err != nil {
		return "", err
	}
	return v.Vault.PasswordHash(ctx, id)
}

type flakyStore struct {
	log.Store
	*outage
}

func (s flakyStore) Insert(ctx context.Context, c events.Commit, keys []string) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Store.Insert(ctx, c, keys)
}

func (s flakyStore) Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	if err := s.err(); err != nil {
		return func(yield func(events.Commit, error) bool) { yield(events.Commit{}, err) }
	}
	return s.Store.Read(ctx, partition, after)
}

func (s flakyStore) Head(ctx context.Context, partition int) (uint64, error) {
	if err := s.err(); err != nil {
		return 0, err
	}
	return s.Store.Head(ctx, partition)
}

func (s flakyStore) ByKey(ctx context.Context, partition int, from, to string) ([]events.Commit, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Store.ByKey(ctx, partition, from, to)
}

func TestWithoutTheLogOrTheVaultAClientIsToldToComeBack(t *testing.T) {
	for _, c := range []struct {
		name  string
		calls []string
		flaky func(w *world, o *outage) option
	}{
		{"the log", []string{"register", "sign in", "me", "patch", "profile", "cards", "refresh", "erase"},
			func(w *world, o *outage) option {
				l := log.New(flakyStore{w.users, o}, log.Options{Clock: w.clock.Now})
				w.Cleanup(l.Close)
				return func(_ *user.Config, d *user.Deps) { d.Log = l }
			}},
		{"the vault", []string{"sign in", "me", "patch", "profile", "cards"},
			func(w *world, o *outage) option {
				return func(_ *user.Config, d *user.Deps) { d.Vault = flakyVault{d.Vault, o} }
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			o := &outage{}
			w.service = w.instance(c.flaky(w, o))
			id := w.register("anna")
			mine := w.signIn("anna", goodPassword)
			requests := map[string]request{
				"register": {method: "POST", path: "/v1/users", body: registration("bob", nil)},
				"sign in":  {method: "POST", path: "/v1/sessions", body: fmt.Sprintf(`{"login":"anna","password":%q}`, goodPassword)},
				"me":       {method: "GET", path: "/v1/me", bearer: mine.access},
				"patch":    {method: "PATCH", path: "/v1/me", bearer: mine.access, body: `{"city":"Bonn"}`, headers: map[string]string{"If-Match": `"1"`}},
				"profile":  {method: "GET", path: "/v1/users/" + id.String(), bearer: mine.access},
				"cards":    {method: "POST", path: "/internal/users/cards", bearer: mine.access, body: fmt.Sprintf(`{"ids":[%q]}`, id)},
				"refresh":  {method: "POST", path: "/v1/sessions/refresh", body: fmt.Sprintf(`{"refresh_token":%q}`, mine.refresh)},
				"erase":    {method: "DELETE", path: "/v1/me", bearer: mine.access},
			}
			o.on.Store(true)
			for _, call := range c.calls {
				r := w.call(requests[call])
				equal(t, "status of "+call, r.status, http.StatusServiceUnavailable)
				equal(t, "Retry-After of "+call, r.header.Get("Retry-After"), "1")
			}
			o.on.Store(false)
			// Nothing was lost: the refresh token, too, is still good.
			w.mustRefresh(mine)
			w.want(http.StatusOK, w.call(requests["patch"]))
			w.want(http.StatusCreated, w.call(requests["register"]))
		})
	}
}

func TestTheServiceStartsOnceTheVaultAnswers(t *testing.T) {
	w := newWorld(t)
	o := &outage{}
	o.on.Store(true)
	w.service = w.instance(withAdmin, func(_ *user.Config, d *user.Deps) { d.Vault = flakyVault{d.Vault, o} })
	w.run(w.service)
	w.want(http.StatusServiceUnavailable, w.call(request{method: "GET", path: "/.well-known/jwks.json"}))
	w.want(http.StatusServiceUnavailable, w.call(request{method: "GET", path: "/v1/me", bearer: w.forge()}))
	unready := w.readiness(w.service)
	equal(t, "readiness in an outage", unready.Ready(), false)
	equal(t, "the log", unready.Checks["user-log"].Status, "ok")
	equal(t, "the vault", unready.Checks["user-vault"].Status, "failed")
	o.on.Store(false)
	w.eventually("it is ready", func() bool { return w.readiness(w.service).Ready() })
	w.signIn("admin", "the admin's password")
}

func TestRunEndsWithItsContextWhileItCannotStart(t *testing.T) {
	w := newWorld(t)
	o := &outage{}
	o.on.Store(true)
	s := w.instance(func(_ *user.Config, d *user.Deps) { d.Vault = flakyVault{d.Vault, o} })
	w.run(s)() // which fails the test if Run does not return nil
}
