package mongolog

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/meet5/backend/events"
)

// FuzzDocument: whatever stands in a partition's collection is the commit that it
// says it is, or ErrCorrupt.
func FuzzDocument(f *testing.F) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	c, err := events.Encode("activity", 3, 17, at, uuid.UUID{1}, []events.Event{{
		ID: uuid.UUID{2}, Type: events.ProfileVisited, Stream: uuid.UUID{3}, OccurredAt: at, Version: 1,
		Claims: []string{"a name"}, Data: []byte(`{}`),
	}})
	if err != nil {
		f.Fatal(err)
	}
	good, err := document(c, []string{"a", "b"}, gistOf(c))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(good))
	f.Add([]byte(good[:len(good)-3]))
	for _, d := range []bson.D{
		{{Key: "_id", Value: 17.0}, {Key: "e", Value: bson.Binary{Data: c.Bytes()}}},
		{{Key: "_id", Value: "17"}, {Key: "e", Value: "x"}, {Key: "k", Value: bson.A{1, "zz"}}},
		{{Key: "_id", Value: bson.D{}}, {Key: "n", Value: -1}, {Key: "w", Value: nil}, {Key: "t", Value: "now"}},
		{},
	} {
		raw, err := bson.Marshal(d)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		doc := bson.Raw(raw)
		e := entryOf("activity", 3, doc)
		for _, k := range keysOf(doc) {
			if k.Err != nil && !errors.Is(k.Err, events.ErrCorrupt) {
				t.Fatalf("%v: %v", doc, k.Err)
			}
		}
		_ = shownValue(doc.Lookup(fieldFirst))
		c, err := decode("activity", 3, doc)
		if err != nil {
			if !errors.Is(err, events.ErrCorrupt) || !errors.Is(e.Err, events.ErrCorrupt) {
				t.Fatalf("%v: %v; as an entry: %v", doc, err, e.Err)
			}
			return
		}
		n := 0
		for range c.Events() {
			n++
		}
		if n != c.Count || c.Log != "activity" || c.Partition != 3 || c.First == 0 || e.Sequence != c.First {
			t.Fatalf("%v is taken for commit %d of %s/%d with %d events", doc, c.First, c.Log, c.Partition, n)
		}
	})
}
