package mongolog_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/events/servertest"
)

// anEvent is one whose stream belongs to a partition.
func anEvent(partition, partitions int) events.Event {
	for {
		if stream := uuid.New(); events.PartitionOf(stream, partitions) == partition {
			return events.Event{ID: uuid.New(), Type: events.ProfileVisited, Stream: stream, OccurredAt: recorded, Data: []byte("{}")}
		}
	}
}

// TestAHarmedLastCommitStopsItsPartitionAlone: what cannot be read is not written
// after, nor over; the other partitions do not notice.
func TestAHarmedLastCommitStopsItsPartitionAlone(t *testing.T) {
	db := servertest.Database(t, "mongolog")
	s := newStore(t, db, 2)
	insert(t, s, commitOf(t, 1, 1, 3, 10))
	insert(t, s, commitOf(t, 1, 4, 2, 10))
	coll := db.Collection(mongolog.CollectionName(logName, 1))
	harm := bson.D{{Key: "$set", Value: bson.D{{Key: "e", Value: bson.Binary{Data: commitOf(t, 1, 4, 2, 10).Bytes()[:70]}}}}}
	if _, err := coll.UpdateByID(t.Context(), int64(4), harm); err != nil {
		t.Fatal(err)
	}
	before, err := coll.FindOne(t.Context(), bson.D{{Key: "_id", Value: int64(4)}}).Raw()
	if err != nil {
		t.Fatal(err)
	}
	l := log.New(s, log.Options{})
	defer l.Close()
	_, err = l.Append(t.Context(), anEvent(1, 2))
	if !errors.Is(err, events.ErrCorrupt) || !errors.Is(err, log.ErrUnavailable) || !strings.Contains(err.Error(), "append to activity/1") || !strings.Contains(err.Error(), "collection activity.p01, _id 4") {
		t.Errorf("append: %v, want ErrCorrupt and ErrUnavailable with the place", err)
	}
	if at, err := l.Append(t.Context(), anEvent(0, 2)); err != nil || at[0].Sequence != 1 {
		t.Errorf("append to the other partition: %v %v", at, err)
	}
	if got, err := read(t.Context(), s, 1, 0); len(got) != 1 || !errors.Is(err, events.ErrCorrupt) {
		t.Errorf("read %v (%v), want the first commit and ErrCorrupt", got, err)
	}
	after, err := coll.FindOne(t.Context(), bson.D{{Key: "_id", Value: int64(4)}}).Raw()
	n, _ := coll.CountDocuments(t.Context(), bson.D{})
	if err != nil || string(after) != string(before) || n != 2 {
		t.Errorf("%d documents, the harmed one was written over: %v (%v)", n, string(after) != string(before), err)
	}
}

// TestAWalkGoesPastAllHarm: every document has its entry, the sound ones without
// an error.
func TestAWalkGoesPastAllHarm(t *testing.T) {
	db := servertest.Database(t, "mongolog")
	s := newStore(t, db, 1)
	coll := db.Collection(mongolog.CollectionName(logName, 0))
	next := uint64(1)
	for range 150 { // several pages
		insert(t, s, commitOf(t, 0, next, 2, 10), "key:"+uuid.NewString())
		next += 2
	}
	for _, id := range []int64{1, 51, 299} {
		if _, err := coll.UpdateByID(t.Context(), id, bson.D{{Key: "$set", Value: bson.D{{Key: "e", Value: "gone"}}}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []any{"x", 2.5, bson.D{{Key: "a", Value: 1}}, true} {
		if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: id}}); err != nil {
			t.Fatal(err)
		}
	}
	whole, harmed := 0, map[string]bool{}
	for e, err := range s.Entries(t.Context(), 0) {
		switch {
		case err != nil:
			t.Fatal(err)
		case e.Err != nil:
			harmed[e.Place] = true
		default:
			whole++
		}
	}
	for _, place := range []string{"1", "51", "299", `"x"`, "true"} {
		if !harmed["collection activity.p00, _id "+place] {
			t.Errorf("no entry for _id %s", place)
		}
	}
	if whole != 147 || len(harmed) != 7 {
		t.Errorf("%d whole entries and %v", whole, harmed)
	}
	keys := 0
	for k, err := range s.Keys(t.Context(), 0) {
		if err != nil || k.Err != nil {
			t.Fatal(err, k.Err)
		}
		keys++
	}
	if keys != 150 {
		t.Errorf("%d keys", keys)
	}
}
