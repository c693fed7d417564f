package user_test

import (
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/bus/inproc"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/user"
)

func (w *world) askCards(access string, ids ...uuid.UUID) response {
	w.Helper()
	body, err := json.Marshal(map[string]any{"ids": ids})
	w.must(err)
	return w.call(request{method: "POST", path: "/internal/users/cards", bearer: access, body: string(body)})
}

func (w *world) cards(access string, ids ...uuid.UUID) []any {
	w.Helper()
	return w.want(http.StatusOK, w.askCards(access, ids...)).body["items"].([]any)
}

// card is the display name on the card of one user.
func (w *world) card(access string, id uuid.UUID) string {
	w.Helper()
	items := w.cards(access, id)
	if len(items) != 1 {
		w.Fatalf("%d cards, want 1", len(items))
	}
	return items[0].(map[string]any)["display_name"].(string)
}

func TestCardsComeInTheOrderAskedForEachOnce(t *testing.T) {
	w := newWorld(t)
	anna, bob := w.register("anna"), w.register("bob")
	access := w.signIn("anna", goodPassword).access
	for range 2 { // from the log, then from memory
		r := w.want(http.StatusOK, w.askCards(access, bob, uuid.New(), anna, bob))
		w.golden("cards", r, map[string]string{anna.String(): "<anna>", bob.String(): "<bob>"})
	}
	equal(t, "no cards", w.cards(access), []any{})
}

func TestABadQuestionForCardsIsRefused(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	access := w.signIn("anna", goodPassword).access
	many := make([]uuid.UUID, 101)
	for i := range many {
		many[i] = uuid.New()
	}
	equal(t, "cards of 100", w.cards(access, many[:100]...), []any{})
	r := w.want(http.StatusUnprocessableEntity, w.askCards(access, many...))
	equal(t, "fields", r.fields(), []string{"ids"})
	r = w.want(http.StatusUnprocessableEntity, w.call(request{method: "POST", path: "/internal/users/cards", bearer: access,
		body: `{"ids":["x"]}`}))
	equal(t, "fields", r.fields(), []string{"ids[0]"})
}

func TestACardIsNewAtOnceWhereItWasChangedAndSoonElsewhere(t *testing.T) {
	for _, c := range []struct {
		name string
		bus  *inproc.Bus
		idle time.Duration
	}{
		{"by looking", nil, 10 * time.Millisecond},
		{"over the bus", inproc.New(inproc.Config{}), time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			idle := func(cfg *user.Config, _ *user.Deps) { cfg.Idle = c.idle }
			follow := func(*user.Config, *user.Deps) {}
			if c.bus != nil {
				t.Cleanup(func() { w.must(c.bus.Close()) })
				feed := bus.NewFeed(c.bus, bus.FeedOptions{})
				w.background(feed.Run)
				writer := log.New(w.users, log.Options{Clock: w.clock.Now, Committed: feed.Offer})
				t.Cleanup(writer.Close)
				follow = func(_ *user.Config, d *user.Deps) {
					d.Log = writer
					d.Follow = func(string) (message.Subscriber, error) { return c.bus, nil }
				}
			}
			here, there := w.instance(idle, follow), w.instance(idle, follow)
			w.run(there)
			w.service = there
			w.catchUp()
			anna := w.register("anna")
			access := w.signIn("anna", goodPassword).access
			for _, s := range []*user.Service{here, there} {
				w.service = s
				equal(t, "the name at first", w.card(access, anna), "The person anna")
			}
			w.service = here
			w.want(http.StatusOK, w.patch(access, `"1"`, `{"display_name":"Anne"}`))
			equal(t, "the name here", w.card(access, anna), "Anne")
			w.service = there
			w.eventually("the name is new there", func() bool { return w.card(access, anna) == "Anne" })
		})
	}
}

func TestCardsThatAreReadWhileTheyChangeAreNeverStale(t *testing.T) {
	w := newWorld(t)
	w.run(w.service)
	anna := w.register("anna")
	access := w.signIn("anna", goodPassword).access
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					w.cards(access, anna)
				}
			}
		})
	}
	for _, name := range []string{"One", "Two", "Three", "Four", "Five"} {
		r := w.patch(access, "*", `{"display_name":"`+name+`"}`)
		if r.status != http.StatusOK {
			t.Errorf("status %d with %s", r.status, r.raw)
			continue
		}
		if got := w.card(access, anna); got != name {
			t.Errorf("the card says %q after the name became %q", got, name)
		}
	}
	close(done)
	wg.Wait()
	equal(t, "events", len(w.stream(anna)), 6)
	equal(t, "the last of them", w.stream(anna)[5].Type, events.UserProfileChanged)
}
