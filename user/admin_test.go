package user_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/user"
)

func TestTheFirstAdminIsMadeOnce(t *testing.T) {
	w := newWorld(t)
	instances := make([]*user.Service, 4)
	for i := range instances {
		writer := log.New(w.users, log.Options{Clock: w.clock.Now})
		t.Cleanup(writer.Close)
		instances[i] = w.instance(withAdmin, func(_ *user.Config, d *user.Deps) { d.Log = writer })
	}
	for _, s := range instances {
		w.run(s)
	}
	for _, s := range instances {
		w.eventually("it has started", func() bool { return w.readiness(s).Ready() })
	}
	r := w.want(http.StatusOK, w.call(request{method: "GET", path: "/v1/me", bearer: w.signIn("admin", "the admin's password").access}))
	w.golden("admin", r, map[string]string{r.text("id"): "<id>"})
	head, err := w.log.Head(t.Context(), 0)
	w.must(err)
	equal(t, "events in the log", head, 1)
}

func TestTheFirstAdminStaysAsTheyAre(t *testing.T) {
	w := newWorld(t, withAdmin)
	admin := w.admin()
	other := w.instance(func(cfg *user.Config, _ *user.Deps) {
		cfg.AdminEmail, cfg.AdminPassword = "other@example.org", "another password"
	})
	w.run(other)
	w.service = other
	w.catchUp()
	w.want(http.StatusUnauthorized, w.call(request{method: "POST", path: "/v1/sessions",
		body: `{"login":"admin","password":"another password"}`}))
	w.want(http.StatusOK, w.call(request{method: "GET", path: "/v1/me", bearer: admin.access}))
}

func TestAnAdminWhoseAddressIsTakenEndsTheStart(t *testing.T) {
	w := newWorld(t)
	w.register("root") // has root@example.org
	err := w.instance(withAdmin).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "MEET5_ADMIN_EMAIL") {
		t.Errorf("Run: %v, want it to name MEET5_ADMIN_EMAIL", err)
	}
}

func TestABadConfigurationIsRefusedWithoutTellingThePassword(t *testing.T) {
	w := newWorld(t)
	deps := user.Deps{Log: w.log, Fraud: w.fraud, Vault: w.vault}
	for _, c := range []struct {
		name  string
		cfg   user.Config
		deps  user.Deps
		names []string
	}{
		{"no password", user.Config{AdminEmail: "a@example.org"}, deps, []string{"MEET5_ADMIN_PASSWORD"}},
		{"no e-mail", user.Config{AdminPassword: "hush-hush"}, deps, []string{"MEET5_ADMIN_EMAIL"}},
		{"both bad", user.Config{AdminEmail: "x", AdminPassword: "hush"}, deps, []string{"MEET5_ADMIN_EMAIL", "MEET5_ADMIN_PASSWORD"}},
		{"nothing to work with", user.Config{}, user.Deps{}, []string{"Deps.Log", "Deps.Fraud", "Deps.Vault"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := user.New(c.cfg, c.deps)
			if err == nil {
				t.Fatal("it is accepted")
			}
			for _, name := range c.names {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("%q does not name %s", err, name)
				}
			}
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("%q tells the password", err)
			}
		})
	}
}

func TestAnAdminSetsRoles(t *testing.T) {
	w := newWorld(t, withAdmin)
	admin := w.admin()
	id := w.register("anna")
	mine := w.signIn("anna", goodPassword)
	r := w.want(http.StatusOK, w.setRoles(admin, id, "moderator", "analyst", "moderator"))
	w.golden("roles", r, map[string]string{id.String(): "<id>"})
	w.want(http.StatusOK, w.setRoles(admin, id, "analyst", "moderator"))
	equal(t, "events", types(w.stream(id)), []string{events.UserRegistered, events.UserRolesChanged})

	equal(t, "roles of the token so far", w.claims(mine.access).Roles, nil)
	mine = w.mustRefresh(mine)
	equal(t, "roles after a refresh", w.claims(mine.access).Roles, []string{"analyst", "moderator"})
	w.want(http.StatusOK, w.caseOf(mine.access, id))

	w.want(http.StatusOK, w.setRoles(admin, id))
	mine = w.mustRefresh(mine)
	w.want(http.StatusForbidden, w.caseOf(mine.access, id))
	equal(t, "roles after all", w.claims(w.signIn("anna", goodPassword).access).Roles, nil)
}

func TestABadRoleIsRefused(t *testing.T) {
	w := newWorld(t, withAdmin)
	admin := w.admin()
	id := w.register("anna")
	for _, c := range []struct {
		path, body string
		status     int
		fields     []string
	}{
		{id.String(), `{"roles":["king","admin","Admin"]}`, 422, []string{"roles[0]", "roles[2]"}},
		{id.String(), `{}`, 422, []string{"roles"}},
		{id.String(), `{"roles":null}`, 422, []string{"roles"}},
		{id.String(), `{"roles":"admin"}`, 422, []string{"roles"}},
		{id.String(), `{"roles":[` + strings.Repeat(`"admin",`, 16) + `"admin"]}`, 422, []string{"roles"}},
		{"x", `{"roles":[]}`, 422, []string{"id"}},
		{uuid.NewString(), `{"roles":[]}`, 404, nil},
	} {
		r := w.call(request{method: "POST", path: "/v1/admin/users/" + c.path + "/roles", bearer: admin.access, body: c.body})
		equal(t, "status of "+c.body, r.status, c.status)
		equal(t, "fields of "+c.body, r.fields(), c.fields)
	}
	w.want(http.StatusNoContent, w.call(request{method: "DELETE", path: "/v1/me", bearer: w.signIn("anna", goodPassword).access}))
	w.want(http.StatusNotFound, w.setRoles(admin, id, "analyst"))
}

func TestRolesInTheLogAndInTokensAreTheSame(t *testing.T) {
	w := newWorld(t, withAdmin)
	admin := w.admin()
	id := w.register("anna")
	w.want(http.StatusOK, w.setRoles(admin, id, "service", "moderator", "analyst", "admin"))
	p, err := events.Unmarshal[events.Roles](w.stream(id)[1])
	w.must(err)
	equal(t, "roles in the log", p.Roles, []string{"admin", "analyst", "moderator", "service"})
	equal(t, "who set them", p.By, w.claims(admin.access).Subject.String())
	equal(t, "roles in the token", w.claims(w.signIn("anna", goodPassword).access).Roles, p.Roles)
}
