package mongolog_test

import (
	"errors"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/events/servertest"
)

func gists(t *testing.T, s *mongolog.Store, partition int) (ids int, err error) {
	for g, err := range s.Gists(t.Context(), partition, 0) {
		if err != nil {
			return ids, err
		}
		ids += len(g.IDs)
	}
	return ids, nil
}

func TestAHarmedGistIsNamedWithItsPlace(t *testing.T) {
	db := servertest.Database(t, "mongolog")
	s := newStore(t, db, 1)
	for _, c := range []events.Commit{commitOf(t, 0, 1, 2, 10), commitOf(t, 0, 3, 2, 10)} {
		if err := s.InsertWithGist(t.Context(), c, nil); err != nil {
			t.Fatal(err)
		}
	}
	set := func(id int64, gist any) {
		t.Helper()
		if _, err := db.Collection("activity.p00").UpdateByID(t.Context(), id, bson.D{{Key: "$set", Value: bson.D{{Key: "i", Value: gist}}}}); err != nil {
			t.Fatal(err)
		}
	}
	for name, gist := range map[string]any{
		"no bytes":       "hello",
		"too short":      bson.Binary{Data: make([]byte, 8)},
		"half an ID":     bson.Binary{Data: make([]byte, 8+16+8)},
		"far too many":   bson.Binary{Data: make([]byte, 8+16*4097)},
		"an ID too many": bson.Binary{Data: make([]byte, 8+16*3)},
	} {
		set(1, gist)
		_, err := gists(t, s, 0)
		if !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "activity/0 after 0") {
			t.Errorf("%s: %v, want ErrCorrupt with its place", name, err)
		}
		wrong := 0
		for e := range s.Entries(t.Context(), 0) {
			if e.Err != nil {
				wrong++
				if e.Sequence != 1 || !strings.Contains(e.Err.Error(), `its field "i"`) {
					t.Errorf("%s: %d: %v, want field i of commit 1", name, e.Sequence, e.Err)
				}
			}
		}
		if wrong != 1 {
			t.Errorf("%s: %d entries are wrong, want 1", name, wrong)
		}
	}
	var l log.Reader = s // who reads needs no gists
	if n := len(collect(t, l)); n != 4 {
		t.Errorf("%d events, want 4", n)
	}
}

func collect(t *testing.T, l log.Reader) (all []events.Recorded) {
	t.Helper()
	for e, err := range log.Events(t.Context(), l, 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// TestOnlyWritersThatMeetStoreGists: what nobody else writes to has nothing to pay for
// the others.
func TestOnlyWritersThatMeetStoreGists(t *testing.T) {
	db := servertest.Database(t, "mongolog")
	store := newStore(t, db, 1)
	stream := uuid.New()
	visit := func(l *log.Log) uint64 {
		at, err := l.Append(t.Context(), events.Event{
			ID: uuid.New(), Type: events.ProfileVisited, Stream: stream, OccurredAt: recorded, Data: []byte(`{}`),
		})
		if err != nil {
			t.Fatal(err)
		}
		return at[0].Sequence
	}
	a, b := log.New(store, log.Options{}), log.New(store, log.Options{})
	defer a.Close()
	defer b.Close()
	withGist := func(first uint64) bool {
		n, err := db.Collection("activity.p00").CountDocuments(t.Context(), bson.D{{Key: "_id", Value: int64(first)}, {Key: "i", Value: bson.D{{Key: "$exists", Value: true}}}}) //nolint:gosec // small
		if err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
	for range 3 {
		if at := visit(a); withGist(at) {
			t.Errorf("commit %d of the only writer has a gist", at)
		}
	}
	visit(b) // opens behind a, and does not meet it
	for range 3 {
		for _, l := range []*log.Log{a, b} {
			if at := visit(l); !withGist(at) {
				t.Errorf("commit %d of two writers by turns has no gist", at)
			}
		}
	}
	visit(b) // nothing of a's came before it: the last with a gist
	if at := visit(b); withGist(at) {
		t.Errorf("commit %d has a gist, and the other writer is gone", at)
	}
}
