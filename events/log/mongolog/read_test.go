package mongolog_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/servertest"
)

func TestReadBeginsWithTheCommitThatHoldsTheNextSequence(t *testing.T) {
	s := newStore(t, servertest.Database(t, "mongolog"), 1)
	var firsts, lasts []uint64
	next := uint64(1)
	for _, n := range []int{1, 5, 1, 1, 40, 2, 3, 1, 1, 1, 1, 1} {
		insert(t, s, commitOf(t, 0, next, n, 10))
		firsts, lasts = append(firsts, next), append(lasts, next+uint64(n)-1) //nolint:gosec // small
		next += uint64(n)                                                     //nolint:gosec // small
	}
	for after := range next + 3 {
		var want []uint64
		for i := range firsts {
			if lasts[i] > after {
				want = append(want, firsts[i])
			}
		}
		got, err := read(t.Context(), s, 0, after)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("after %d: %v (%v), want %v", after, got, err, want)
		}
	}
	if got, err := read(t.Context(), s, 0, 1<<64-1); err != nil || len(got) != 0 {
		t.Errorf("after the last sequence there is: %v (%v), want nothing", got, err)
	}
}

func TestReadMayBeLeftEarly(t *testing.T) {
	s := newStore(t, servertest.Database(t, "mongolog"), 1)
	for first := range uint64(30) {
		insert(t, s, commitOf(t, 0, first+1, 1, 10))
	}
	var got []uint64
	for c, err := range s.Read(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, c.First); len(got) == 11 {
			break
		}
	}
	if len(got) != 11 || got[10] != 11 {
		t.Fatalf("read %v", got)
	}
}

func TestDamageIsNamedWithItsPlace(t *testing.T) {
	set := func(id int64, field string, value any) func(context.Context, *mongo.Collection) error {
		return func(ctx context.Context, c *mongo.Collection) error {
			_, err := c.UpdateByID(ctx, id, bson.D{{Key: "$set", Value: bson.D{{Key: field, Value: value}}}})
			return err
		}
	}
	harmed := func(c events.Commit) bson.Binary {
		b := slices.Clone(c.Bytes())
		b[len(b)/2] ^= 1
		return bson.Binary{Data: b}
	}
	middle := commitOf(t, 2, 4, 3, 10)
	elsewhere := commitOf(t, 1, 4, 3, 10)
	for name, c := range map[string]struct {
		harm func(context.Context, *mongo.Collection) error
		want string
	}{
		"a flipped bit":          {set(4, "e", harmed(middle)), "collection activity.p02, _id 4: not a whole, unharmed commit: checksum"},
		"a commit cut short":     {set(4, "e", bson.Binary{Data: middle.Bytes()[:50]}), "collection activity.p02, _id 4"},
		"no commit":              {set(4, "e", "gone"), `_id 4: not a whole, unharmed commit: there is no commit in "e"`},
		"another partition's":    {set(4, "e", bson.Binary{Data: elsewhere.Bytes()}), "holds commit 4 of activity/1"},
		"another commit's bytes": {set(4, "e", bson.Binary{Data: commitOf(t, 2, 7, 3, 10).Bytes()}), "holds commit 7 of activity/2"},
		"a hole": {func(ctx context.Context, c *mongo.Collection) error {
			_, err := c.DeleteOne(ctx, bson.D{{Key: "_id", Value: int64(4)}})
			return err
		}, "commit 7 follows sequence 3, a hole"},
		"an overlap": {func(ctx context.Context, c *mongo.Collection) error {
			_, err := c.InsertOne(ctx, bson.D{{Key: "_id", Value: int64(5)}, {Key: "n", Value: 1},
				{Key: "e", Value: bson.Binary{Data: commitOf(t, 2, 5, 1, 10).Bytes()}}})
			return err
		}, "commit 5 follows sequence 6, an overlap"},
	} {
		t.Run(name, func(t *testing.T) {
			db := servertest.Database(t, "mongolog")
			s := newStore(t, db, 3)
			insert(t, s, commitOf(t, 2, 1, 3, 10))
			insert(t, s, middle)
			insert(t, s, commitOf(t, 2, 7, 1, 10))
			if err := c.harm(t.Context(), db.Collection("activity.p02")); err != nil {
				t.Fatal(err)
			}
			got, err := read(t.Context(), s, 2, 0)
			if !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "read activity/2 after 0") {
				t.Errorf("read %v: %v, want ErrCorrupt and %q", got, err, c.want)
			}
			if len(got) == 0 || got[0] != 1 {
				t.Errorf("read %v, want what is before the damage", got)
			}
		})
	}
}

func TestADocumentWithoutACountIsNotAHead(t *testing.T) {
	db := servertest.Database(t, "mongolog")
	s := newStore(t, db, 1)
	if _, err := db.Collection("activity.p00").InsertOne(t.Context(), bson.D{{Key: "_id", Value: int64(1)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Head(t.Context(), 0); !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "head of activity/0") {
		t.Errorf("%v, want ErrCorrupt with its place", err)
	}
	if _, err := read(t.Context(), s, 0, 5); !errors.Is(err, events.ErrCorrupt) {
		t.Errorf("%v, want ErrCorrupt", err)
	}
}

// replies watches how many documents each query brings.
type replies struct {
	mu    sync.Mutex
	pages []int
	open  int // answers that left a cursor on the server
}

func (r *replies) monitor() *event.CommandMonitor {
	return &event.CommandMonitor{Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) {
		cursor, ok := e.Reply.Lookup("cursor").DocumentOK()
		if !ok || e.CommandName != "find" && e.CommandName != "getMore" {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if id, ok := cursor.Lookup("id").AsInt64OK(); ok && id != 0 {
			r.open++
		}
		if docs, ok := cursor.Lookup("firstBatch").ArrayOK(); ok {
			values, _ := docs.Values()
			r.pages = append(r.pages, len(values))
		}
	}}
}

func TestAPageIsBoundedByBytesAndHoldsNothingOnTheServer(t *testing.T) {
	var seen replies
	s := newStore(t, servertest.Database(t, "mongolog", options.Client().SetMonitor(seen.monitor())), 1)
	const total, size = 40, 200_000
	for first := range uint64(total) {
		insert(t, s, commitOf(t, 0, first+1, 1, size))
	}
	seen.pages = nil
	if got, err := read(t.Context(), s, 0, 0); err != nil || len(got) != total {
		t.Fatalf("read %d commits (%v), want %d", len(got), err, total)
	}
	const most = 4 << 20
	for i, n := range seen.pages {
		if n*size > most {
			t.Errorf("page %d of %v brings %d bytes, want at most %d", i, seen.pages, n*size, most)
		}
	}
	if len(seen.pages) > 4 || seen.open > 0 {
		t.Errorf("pages of %v for %d commits of %d bytes, %d cursors left open", seen.pages, total, size, seen.open)
	}
}

func TestAPartitionOfManySmallCommitsIsReadToItsEnd(t *testing.T) {
	s := newStore(t, servertest.Database(t, "mongolog"), 1)
	// More than a server puts into one answer if it is not asked for more.
	const total = 250
	for first := range uint64(total) {
		insert(t, s, commitOf(t, 0, first+1, 1, 10))
	}
	if got, err := read(t.Context(), s, 0, 0); err != nil || len(got) != total {
		t.Fatalf("read %d commits (%v), want %d", len(got), err, total)
	}
}

func TestAPageThatTheServerCutsIsNotTakenForTheEnd(t *testing.T) {
	s := newStore(t, servertest.Database(t, "mongolog"), 1)
	// After small commits a page asks for many, and these are large.
	var want []uint64
	next := uint64(1)
	add := func(n, count, size int) {
		for range n {
			insert(t, s, commitOf(t, 0, next, count, size))
			want = append(want, next)
			next += uint64(count) //nolint:gosec // small
		}
	}
	add(10, 1, 10)
	add(10, 20, events.MaxData)
	add(3, 1, 10)
	if got, err := read(t.Context(), s, 0, 0); err != nil || !slices.Equal(got, want) {
		t.Fatalf("read %v (%v), want %v", got, err, want)
	}
}
