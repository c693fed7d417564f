package user_test

import (
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/bus/rabbit"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/events/servertest"
	"github.com/meet5/backend/service/vault/mongovault"
	"github.com/meet5/backend/user"
)

// distributed is a deployment on MongoDB and RabbitMQ, in databases and under
// names of its own, with two instances that share nothing else.
type distributed struct {
	*world
	one, two *user.Service
}

func newDistributed(t *testing.T) *distributed {
	t.Helper()
	amqpURI, db := servertest.AMQP(t), servertest.Database(t, "user-test")
	name := db.Name()
	w := &world{TB: t, flags: make(map[uuid.UUID]uint64), clock: &clock{now: time.Now().UTC()}}
	w.must(mongolog.Create(t.Context(), db, events.UserLog, events.UserPartitions))
	w.must(mongolog.Create(t.Context(), db, events.FraudLog, events.FraudPartitions))
	w.must(mongolog.Create(t.Context(), db, events.ActivityLog, events.ActivityPartitions))
	w.must(mongovault.Create(t.Context(), db))
	servertest.Undeclared(t, []string{name + ".fraud", name + ".user"}, []string{name + ".fraud.0.user-standing", name + ".user.0.user-erasure"})

	w.users = mongolog.Open(db, events.UserLog, events.UserPartitions)
	w.vault = mongovault.Open(db)
	fraud := mongolog.Open(db, events.FraudLog, events.FraudPartitions)
	w.fraud = w.writer(fraud, name, amqpURI)
	d := &distributed{world: w}
	for _, s := range []**user.Service{&d.one, &d.two} {
		w.log = w.writer(w.users, name, amqpURI)
		*s = w.instance(withAdmin, func(cfg *user.Config, deps *user.Deps) {
			cfg.Idle = time.Second
			deps.Fraud = fraud
			deps.Activity = mongolog.Open(db, events.ActivityLog, events.ActivityPartitions)
			deps.Logger = slog.New(slog.DiscardHandler)
			deps.Follow = func(group string) (message.Subscriber, error) {
				sub, err := rabbit.NewSubscriber(rabbit.Config{URI: amqpURI, Group: group, Topology: rabbit.PrefixTopology(name)})
				if err == nil {
					t.Cleanup(func() { w.must(sub.Close()) })
				}
				return sub, err
			}
		})
	}
	for _, s := range []*user.Service{d.one, d.two} {
		w.run(s)
	}
	for _, s := range []*user.Service{d.one, d.two} {
		w.eventually("it has started", func() bool { return w.readiness(s).Ready() })
	}
	w.service = d.one
	return d
}

// writer appends to a store, as one process does, and announces it on the bus.
func (w *world) writer(store log.Store, prefix, amqpURI string) *log.Log {
	w.Helper()
	publisher, err := rabbit.NewPublisher(rabbit.Config{URI: amqpURI, Topology: rabbit.PrefixTopology(prefix)})
	w.must(err)
	w.Cleanup(func() { w.must(publisher.Close()) })
	feed := bus.NewFeed(publisher, bus.FeedOptions{})
	w.background(feed.Run)
	l := log.New(store, log.Options{Clock: w.clock.Now, Committed: feed.Offer})
	w.Cleanup(l.Close)
	return l
}

func (d *distributed) on(s *user.Service) *world {
	d.service = s
	return d.world
}

func TestTwoInstancesOnRealServicesAreOneService(t *testing.T) {
	d := newDistributed(t)

	// Both made the first admin, once.
	admin := d.on(d.two).signIn("admin", "the admin's password")

	// Eight want one name, half of them of each instance.
	answers := make([]response, 8)
	var wg sync.WaitGroup
	for i, spelling := range spellings("annabel") {
		wg.Go(func() {
			answers[i] = d.callOn([]*user.Service{d.one, d.two}[i%2], request{method: "POST", path: "/v1/users", body: registration(spelling, nil)})
		})
	}
	wg.Wait()
	won := slices.IndexFunc(answers, func(r response) bool { return r.status == http.StatusCreated })
	if won < 0 {
		t.Fatalf("nobody got the name; the first is answered %d with %s", answers[0].status, answers[0].raw)
	}
	for i, r := range answers {
		if i != won {
			equal(t, "status of one who lost", r.status, http.StatusConflict)
			equal(t, "fields of one who lost", r.fields(), []string{"handle", "email"})
		}
	}
	id := uuid.MustParse(answers[won].text("id"))

	// What one instance does, the other knows.
	mine := d.on(d.two).signIn("annabel", goodPassword)
	mine = d.on(d.one).mustRefresh(mine)
	name := d.on(d.two).card(mine.access, id)
	equal(t, "the name on the card", name, answers[won].text("display_name"))
	d.want(http.StatusOK, d.on(d.one).patch(mine.access, `"1"`, `{"display_name":"Annabel Lee"}`))
	d.on(d.two).eventually("the card is new on the other instance", func() bool {
		return d.card(mine.access, id) == "Annabel Lee"
	})
	d.want(http.StatusOK, d.on(d.one).setRoles(admin, id, "analyst"))
	mine = d.on(d.two).mustRefresh(mine)
	equal(t, "roles", d.claims(mine.access).Roles, []string{"analyst"})

	// A decision is applied once, whichever instance hears of it.
	flag := uuid.New()
	d.decide(events.FlagConfirmed, flag, id)
	d.eventually("she is fraudulent", func() bool { return d.status(mine.access) == "fraudulent" })
	d.decide(events.FlagOverturned, flag, id)
	d.eventually("she is cleared", func() bool { return d.status(mine.access) == "active" })

	// Keys that one makes, the other signs with when it is time; sessions and the
	// password are everybody's.
	_, err := d.one.RotateKeys(t.Context(), false)
	d.must(err)
	before := d.kid(mine.access)
	d.clock.advance(lead)
	d.on(d.two)
	mine = d.mustRefresh(mine)
	if d.kid(mine.access) == before {
		t.Error("the other instance signs with the old key")
	}
	d.want(http.StatusOK, d.on(d.one).call(request{method: "GET", path: "/v1/me", bearer: mine.access}))
	d.want(http.StatusNoContent, d.on(d.one).changePassword(mine.access, goodPassword, newPassword))
	phone := d.on(d.two).signIn("annabel", newPassword)
	equal(t, "sessions", len(d.on(d.one).sessions(mine.access)), 2)
	d.want(http.StatusNoContent, d.on(d.one).call(request{method: "DELETE", path: "/v1/me/sessions/" + d.claims(phone.access).Session.String(), bearer: mine.access}))
	d.want(http.StatusUnauthorized, d.on(d.two).refresh(phone))
	equal(t, "lines of the export", len(d.on(d.two).export(mine.access)), 8) // account, 5 changes, session, end
	admin = d.signIn("admin", "the admin's password")

	d.want(http.StatusNoContent, d.on(d.one).call(request{method: "DELETE", path: "/v1/me", bearer: mine.access}))
	d.want(http.StatusNotFound, d.on(d.two).call(request{method: "GET", path: "/v1/users/" + id.String(), bearer: admin.access}))
	d.want(http.StatusUnauthorized, d.on(d.two).refresh(mine))
	d.eventually("her card is gone from the other instance", func() bool { return len(d.cards(admin.access, id)) == 0 })
	equal(t, "events", types(d.stream(id)), []string{
		events.UserRegistered, events.UserProfileChanged, events.UserRolesChanged,
		events.UserMarkedFraudulent, events.UserCleared, events.UserErased,
	})
}

func TestImportingOnRealServicesTwiceAddsNothing(t *testing.T) {
	d := newDistributed(t)
	accounts := importedAccounts(2000)
	for _, s := range []*user.Service{d.one, d.two} {
		d.must(s.Import(t.Context(), accounts))
	}
	seen := d.registered()
	equal(t, "accounts", len(seen), len(accounts)+1) // and the admin
	admin := d.signIn("admin", "the admin's password")
	for _, s := range []*user.Service{d.one, d.two} {
		equal(t, "name on the card", d.on(s).card(admin.access, accounts[1234].ID), "Imported 1234")
	}
}
