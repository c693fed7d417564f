package mongolog

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

var _ log.Scanner = (*Store)(nil)

// fields are those that a commit's document may have.
var fields = []string{fieldFirst, fieldCount, fieldWriter, fieldTime, fieldGist, fieldCommit, fieldKeys}

// Entries implements log.Scanner. Documents whose _id is no number come last.
func (s *Store) Entries(ctx context.Context, partition int) iter.Seq2[log.Entry, error] {
	return func(yield func(log.Entry, error) bool) {
		err := s.scan(ctx, partition, nil, func(coll *mongo.Collection, doc bson.Raw) bool {
			e := entryOf(s.name, partition, doc)
			e.Place = placeOf(coll, doc.Lookup(fieldFirst))
			return yield(e, nil)
		})
		if err != nil {
			yield(log.Entry{}, fmt.Errorf("scan %s/%d: %w", s.name, partition, err))
		}
	}
}

// entryOf checks a document against the commit that it holds. Its keys are not
// looked at: Keys yields them.
func entryOf(name string, partition int, doc bson.Raw) log.Entry {
	var e log.Entry
	fault := func(err error) {
		if e.Err == nil {
			e.Err = err
		} else {
			e.Err = fmt.Errorf("%w; %w", e.Err, err)
		}
	}
	differs := func(field string, want any) {
		fault(fmt.Errorf("%w: its field %q is %s, the commit says %v", events.ErrCorrupt, field, shownValue(doc.Lookup(field)), want))
	}
	first, ok := sequenceOf(doc.Lookup(fieldFirst))
	if e.Sequence = first; !ok {
		fault(fmt.Errorf("%w: its _id is no sequence", events.ErrCorrupt))
	}
	elements, err := doc.Elements()
	if err != nil {
		fault(fmt.Errorf("%w: %w", events.ErrCorrupt, err))
	}
	for _, f := range elements {
		if !slices.Contains(fields, f.Key()) {
			fault(fmt.Errorf("%w: no commit has a field %q", events.ErrCorrupt, shorten(f.Key())))
		}
	}
	c, err := decode(name, partition, doc)
	if e.Commit = c; err != nil {
		fault(err)
		return e
	}
	if n, ok := doc.Lookup(fieldCount).AsInt64OK(); !ok || n != int64(c.Count) {
		differs(fieldCount, c.Count)
	}
	if subtype, w, ok := doc.Lookup(fieldWriter).BinaryOK(); !ok || subtype != bson.TypeBinaryUUID || !bytes.Equal(w, c.Writer[:]) {
		differs(fieldWriter, c.Writer)
	}
	if at, ok := doc.Lookup(fieldTime).TimeOK(); !ok || !at.Equal(c.RecordedAt.Truncate(time.Millisecond)) {
		differs(fieldTime, c.RecordedAt)
	}
	if gist := doc.Lookup(fieldGist); !gist.IsZero() {
		if _, b, ok := gist.BinaryOK(); !ok || !bytes.Equal(b, gistOf(c)) {
			differs(fieldGist, "otherwise")
		}
	}
	return e
}

// Keys implements log.Scanner.
func (s *Store) Keys(ctx context.Context, partition int) iter.Seq2[log.StoredKey, error] {
	return func(yield func(log.StoredKey, error) bool) {
		only := projection{{Key: fieldFirst, Value: 1}, {Key: fieldKeys, Value: 1}}
		err := s.scan(ctx, partition, only, func(coll *mongo.Collection, doc bson.Raw) bool {
			for _, k := range keysOf(doc) {
				k.Place = placeOf(coll, doc.Lookup(fieldFirst))
				if !yield(k, nil) {
					return false
				}
			}
			return true
		})
		if err != nil {
			yield(log.StoredKey{}, fmt.Errorf("scan keys of %s/%d: %w", s.name, partition, err))
		}
	}
}

// keysOf reads the keys of a document.
func keysOf(doc bson.Raw) []log.StoredKey {
	k := doc.Lookup(fieldKeys)
	first, ok := sequenceOf(doc.Lookup(fieldFirst))
	if k.IsZero() || !ok {
		return nil // Entries tells of the _id
	}
	harmed := func(v bson.RawValue) log.StoredKey {
		return log.StoredKey{Err: fmt.Errorf("%w: a key in its field %q is %s", events.ErrCorrupt, fieldKeys, shownValue(v))}
	}
	list, ok := k.ArrayOK()
	values, err := list.Values()
	if !ok || err != nil || len(values) == 0 {
		return []log.StoredKey{{Err: fmt.Errorf("%w: its field %q is no list of keys: %s", events.ErrCorrupt, fieldKeys, shownValue(k))}}
	}
	out := make([]log.StoredKey, len(values))
	for i, v := range values {
		text, ok := v.StringValueOK()
		key, err := hex.DecodeString(text)
		if !ok || err != nil || encodeKey(string(key)) != text {
			out[i] = harmed(v)
			continue
		}
		out[i] = log.StoredKey{Key: string(key), First: first}
	}
	return out
}

// projection says which fields are wanted; nil is all.
type projection bson.D

func (p projection) find() *options.FindOptionsBuilder {
	if p == nil {
		return options.Find()
	}
	return options.Find().SetProjection(bson.D(p))
}

// errStopped ends a scan whose consumer wants no more.
var errStopped = errors.New("stopped")

// scan hands over every document of a partition: those with a number for an _id
// in order, then the others.
func (s *Store) scan(ctx context.Context, partition int, only projection, do func(*mongo.Collection, bson.Raw) bool) error {
	coll, err := s.collection(partition)
	if err != nil {
		return err
	}
	each := func(doc bson.Raw) error {
		if !do(coll, doc) {
			return errStopped
		}
		return nil
	}
	err = scanNumbered(ctx, coll, only, each)
	if err == nil {
		err = scanOthers(ctx, coll, only, each)
	}
	if errors.Is(err, errStopped) {
		return nil
	}
	return err
}

func scanNumbered(ctx context.Context, coll *mongo.Collection, only projection, do func(bson.Raw) error) error {
	// A comparison with a number is one with all numbers, and with nothing else.
	filter := bson.D{{Key: fieldFirst, Value: bson.D{{Key: "$gte", Value: math.Inf(-1)}}}}
	for limit := firstPage; ; {
		docs, err := find(ctx, coll, filter, only.find().SetSort(bson.D{{Key: fieldFirst, Value: 1}}), limit)
		if err != nil {
			return err
		}
		size := 0
		for _, doc := range docs {
			if err := do(doc); err != nil {
				return err
			}
			size += len(doc)
		}
		if len(docs) == 0 {
			return nil
		}
		last := docs[len(docs)-1].Lookup(fieldFirst)
		filter = bson.D{{Key: fieldFirst, Value: bson.D{{Key: "$gt", Value: last}}}}
		limit = max(1, min(maxPage, pageBytes*len(docs)/size))
	}
}

// scanOthers goes through what no program of ours puts there. NaN is a number
// that is not equal to, above or below any.
func scanOthers(ctx context.Context, coll *mongo.Collection, only projection, do func(bson.Raw) error) error {
	filter := bson.D{{Key: "$or", Value: bson.A{
		bson.D{{Key: fieldFirst, Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$type", Value: "number"}}}}}},
		bson.D{{Key: fieldFirst, Value: math.NaN()}},
	}}}
	cur, err := coll.Find(ctx, filter, only.find().SetBatchSize(firstPage))
	if err != nil {
		return err
	}
	for cur.Next(ctx) {
		if err := do(bson.Raw(bytes.Clone(cur.Current))); err != nil {
			return errors.Join(err, cur.Close(ctx))
		}
	}
	return errors.Join(cur.Err(), cur.Close(ctx))
}
