package mongostore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events/servertest"
	"github.com/meet5/backend/projections/mongostore"
	"github.com/meet5/backend/projections/views"
)

// TestQueriesGoAlongTheirIndexes has the server explain the very commands that the
// queries send.
func TestQueriesGoAlongTheirIndexes(t *testing.T) {
	var mu sync.Mutex
	var sent []bson.Raw
	db := servertest.Database(t, "projections", options.Client().SetMonitor(&event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		mu.Lock()
		defer mu.Unlock()
		if e.CommandName == "find" || e.CommandName == "aggregate" {
			sent = append(sent, append(bson.Raw(nil), e.Command...))
		}
	}}))
	s := created(t, db)
	user := someActivities(t, s)
	visits := func(list func(context.Context, uuid.UUID, views.Page) ([]views.Visit, error)) func(views.Page) error {
		return func(p views.Page) error {
			_, err := list(t.Context(), user, p)
			return err
		}
	}
	likes := func(list func(context.Context, uuid.UUID, views.Page) ([]views.Like, error)) func(views.Page) error {
		return func(p views.Page) error {
			_, err := list(t.Context(), user, p)
			return err
		}
	}
	for _, c := range []struct {
		name    string
		query   func(views.Page) error
		indexes []string // of one command each, separated by commas
	}{
		{"visitors", visits(s.Visitors), []string{"visitors"}},
		{"visits", visits(s.Visits), []string{"visits"}},
		{"likes received", likes(s.LikesReceived), []string{"received"}},
		{"likes given", likes(s.LikesGiven), []string{"given"}},
		{"matches", likes(s.Matches), []string{"lower,higher"}},
		{"stats", func(views.Page) error { _, err := s.Stats(t.Context(), user); return err }, []string{"visitors", "received", "given", "lower,higher"}},
	} {
		for name, after := range map[string]views.Mark{"first page": {}, "second page": {At: time.Unix(50, 0), User: user}} {
			t.Run(c.name+" "+name, func(t *testing.T) {
				mu.Lock()
				sent = nil
				mu.Unlock()
				if err := c.query(views.Page{Limit: 10, After: after}); err != nil {
					t.Fatal(err)
				}
				if len(sent) != len(c.indexes) {
					t.Fatalf("%d commands, want %d", len(sent), len(c.indexes))
				}
				var plans []string
				for _, command := range sent {
					plans = append(plans, explain(t, db.RunCommand(t.Context(), bson.D{{Key: "explain", Value: explainable(t, command)}}).Raw))
				}
				for _, names := range c.indexes {
					if !anyUses(plans, strings.Split(names, ",")) {
						t.Errorf("no plan uses %s:\n%s", names, strings.Join(plans, "\n"))
					}
				}
			})
		}
	}
}

func anyUses(plans, indexes []string) bool {
	for _, plan := range plans {
		all := true
		for _, index := range indexes {
			all = all && strings.Contains(plan, fmt.Sprintf("%q", index))
		}
		if all {
			return true
		}
	}
	return false
}

// explainable is the command without what belongs to its session.
func explainable(t *testing.T, command bson.Raw) bson.D {
	t.Helper()
	var d, out bson.D
	if err := bson.Unmarshal(command, &d); err != nil {
		t.Fatal(err)
	}
	for _, e := range d {
		if !strings.HasPrefix(e.Key, "$") && e.Key != "lsid" && e.Key != "readConcern" {
			out = append(out, e)
		}
	}
	return out
}

func explain(t *testing.T, raw func() (bson.Raw, error)) string {
	t.Helper()
	r, err := raw()
	if err != nil {
		t.Fatal(err)
	}
	// A server may give an aggregation's plan by stages. The rest of the answer
	// repeats the command, which has names of its own.
	var plan strings.Builder
	for _, field := range []string{"queryPlanner", "stages"} {
		if v, err := r.LookupErr(field); err == nil {
			plan.WriteString(v.String())
		}
	}
	return plan.String()
}

// someActivities are enough for an index to be worth its while, and one user of
// many.
func someActivities(t *testing.T, s *mongostore.Store) uuid.UUID {
	t.Helper()
	const people, each = 200, 10
	random := rand.New(rand.NewPCG(5, 6))
	b := views.Batch{First: 1}
	for actor := range people {
		for range each {
			b.Last++
			kind := views.Visited
			if b.Last%2 == 0 {
				kind = views.Liked
			}
			b.Changes = append(b.Changes, views.Change{
				Kind: kind, Actor: person(actor), Target: person((actor + 1 + random.IntN(5)) % people),
				At: time.Unix(int64(random.IntN(100)), 0), Sequence: b.Last,
			})
		}
	}
	if err := s.Apply(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return person(people / 2)
}
