package mongolog

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/meet5/backend/events"
)

// FuzzGist: whatever stands in a document is no gist, ErrCorrupt, or the gist of the
// commit that gave these very bytes.
func FuzzGist(f *testing.F) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 123_000, time.UTC)
	evs := []events.Event{
		{ID: uuid.UUID{2}, Type: events.ProfileVisited, Stream: uuid.UUID{3}, OccurredAt: at, Data: []byte(`{}`)},
		{ID: uuid.UUID{4}, Type: events.ProfileLiked, Stream: uuid.UUID{3}, OccurredAt: at, Data: []byte(`{}`)},
	}
	c, err := events.Encode("activity", 0, 17, at, uuid.UUID{1}, evs)
	if err != nil {
		f.Fatal(err)
	}
	whole, err := document(c, nil, gistOf(c))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(whole))
	binary := func(b []byte) bson.Binary { return bson.Binary{Data: b} }
	for _, d := range []bson.D{
		{{Key: fieldFirst, Value: int64(17)}, {Key: fieldGist, Value: binary(gistOf(c))}},
		{{Key: fieldFirst, Value: 17.0}, {Key: fieldGist, Value: binary(gistOf(c)[:30])}},
		{{Key: fieldFirst, Value: int64(math.MaxInt64)}, {Key: fieldGist, Value: binary(make([]byte, gistHeader+gistPerID))}},
		{{Key: fieldFirst, Value: int64(17)}, {Key: fieldGist, Value: binary(make([]byte, gistHeader))}},
		{{Key: fieldFirst, Value: int64(17)}, {Key: fieldGist, Value: "no gist"}},
		{{Key: fieldFirst, Value: "17"}, {Key: fieldGist, Value: binary(gistOf(c))}},
		{{Key: fieldFirst, Value: int64(17)}},
		{},
	} {
		raw, err := bson.Marshal(d)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	s := &Store{name: "activity", parts: []*mongo.Collection{{}}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		doc := bson.Raw(raw)
		g, stored, err := s.gist(0, doc)
		switch {
		case err != nil:
			if !errors.Is(err, events.ErrCorrupt) {
				t.Fatalf("%v: %v", doc, err)
			}
			return
		case !stored:
			if len(g.IDs) > 0 {
				t.Fatalf("%v holds no gist, and yet %v", doc, g)
			}
			return
		case g.First == 0 || len(g.IDs) == 0 || len(g.IDs) > events.MaxCommitEvents:
			t.Fatalf("%v is taken for the gist of %d events from %d on", doc, len(g.IDs), g.First)
		}
		again := make([]events.Event, len(g.IDs))
		for i, id := range g.IDs {
			again[i] = events.Event{ID: id, Type: events.ProfileVisited, Stream: uuid.UUID{3}, OccurredAt: at, Data: []byte(`{}`)}
		}
		_, b, _ := doc.Lookup(fieldGist).BinaryOK()
		if g.RecordedAt.UnixMicro() < 0 || g.RecordedAt.Year() > 9999 {
			return // no commit has such a time
		}
		c, err := events.Encode("activity", 0, g.First, g.RecordedAt, uuid.UUID{1}, again)
		if err != nil {
			return // nor such IDs
		}
		if !bytes.Equal(gistOf(c), b) {
			t.Fatalf("%v is taken for %v, whose gist is %x", doc, g, gistOf(c))
		}
	})
}
