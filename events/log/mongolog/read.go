package mongolog

import (
	"context"
	"fmt"
	"iter"
	"math"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events"
)

const (
	// pageBytes is about how much one query of a Read brings. Where commits turn
	// out larger than those before them it may be more; a server sends at most
	// about 16 MiB in one answer.
	pageBytes = 4 << 20
	// firstPage and maxPage bound the commits of a query: of the first, when
	// their size is not known yet, and of any.
	firstPage = 4
	maxPage   = 1000
)

// Read implements log.Store. Between queries it holds nothing on the server, so
// the consumer may take as long as it likes over a commit.
func (s *Store) Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	return func(yield func(events.Commit, error) bool) {
		emit := func(c events.Commit) bool { return yield(c, nil) }
		if err := s.read(ctx, partition, after, emit); err != nil {
			yield(events.Commit{}, fmt.Errorf("read %s/%d after %d: %w", s.name, partition, after, err))
		}
	}
}

// read hands emit the commits that hold a sequence above after, until there are
// no more or emit returns false.
func (s *Store) read(ctx context.Context, partition int, after uint64, emit func(events.Commit) bool) error {
	if after >= math.MaxInt64 {
		return nil
	}
	next := uint64(1) // the sequence that the next commit must start with
	if after > 0 {
		first, last, err := s.lastUpTo(ctx, partition, int64(after)+1)
		switch {
		case err != nil:
			return err
		case last > after:
			next = first
		case last > 0:
			next = last + 1
		}
	}
	for limit := firstPage; ; {
		docs, err := s.page(ctx, partition, next, limit)
		if err != nil {
			return err
		}
		size := 0
		for _, doc := range docs {
			c, err := s.commit(partition, doc)
			if err != nil {
				return err
			}
			if c.First > next {
				return fmt.Errorf("%w: commit %d follows sequence %d, a hole", events.ErrCorrupt, c.First, next-1)
			}
			if c.First < next {
				return fmt.Errorf("%w: commit %d follows sequence %d, an overlap", events.ErrCorrupt, c.First, next-1)
			}
			next = c.Last() + 1
			if c.Last() > after && !emit(c) {
				return nil
			}
			size += len(doc)
		}
		// A short page is the last one, unless the server has cut it for its size.
		if len(docs) == 0 || len(docs) < limit && size < pageBytes {
			return nil
		}
		limit = max(1, min(maxPage, pageBytes*len(docs)/size))
	}
}

// page returns the documents from a sequence on, at most limit of them and what
// the server puts into one answer. It is a query with a limit and not a cursor
// over the rest, because not every server can stream a sorted result: one that
// cannot would collect all of it first.
func (s *Store) page(ctx context.Context, partition int, from uint64, limit int) ([]bson.Raw, error) {
	coll, err := s.collection(partition)
	if err != nil {
		return nil, err
	}
	filter := bson.D{{Key: fieldFirst, Value: bson.D{{Key: "$gte", Value: int64(from)}}}} //nolint:gosec // at most one commit above a stored sequence
	return find(ctx, coll, filter, commitsInOrder(), limit)
}

// find asks for at most so many documents, and gets what fits into one answer.
func find(ctx context.Context, coll *mongo.Collection, filter bson.D, opts *options.FindOptionsBuilder, limit int) ([]bson.Raw, error) {
	// A negative limit is one answer, and unless it is asked for more, a server
	// puts no more than 101 documents into a first answer.
	cur, err := coll.Find(ctx, filter, opts.SetLimit(-int64(limit)).SetBatchSize(int32(limit))) //nolint:gosec // at most maxPage
	if err != nil {
		return nil, err
	}
	docs := make([]bson.Raw, 0, limit)
	err = cur.All(ctx, &docs)
	return docs, err
}

func commitsInOrder() *options.FindOptionsBuilder {
	return options.Find().
		SetSort(bson.D{{Key: fieldFirst, Value: 1}}).
		SetProjection(bson.D{{Key: fieldFirst, Value: 1}, {Key: fieldCommit, Value: 1}})
}

// commit decodes a document and checks that it is what it says it is. The commit
// keeps the document's memory.
func (s *Store) commit(partition int, doc bson.Raw) (events.Commit, error) {
	c, err := decode(s.name, partition, doc)
	if err != nil {
		return events.Commit{}, fmt.Errorf("%s: %w", placeOf(s.parts[partition], doc.Lookup(fieldFirst)), err)
	}
	return c, nil
}

func decode(name string, partition int, doc bson.Raw) (events.Commit, error) {
	_, b, ok := doc.Lookup(fieldCommit).BinaryOK()
	if !ok {
		return events.Commit{}, fmt.Errorf("%w: there is no commit in %q", events.ErrCorrupt, fieldCommit)
	}
	c, err := events.Decode(b)
	if err != nil {
		return events.Commit{}, err
	}
	first, ok := sequenceOf(doc.Lookup(fieldFirst))
	if !ok || first != c.First || c.Log != name || c.Partition != partition {
		return c, fmt.Errorf("%w: it holds commit %d of %s/%d", events.ErrCorrupt, c.First, c.Log, c.Partition)
	}
	return c, nil
}

// sequenceOf reads the _id of a commit's document.
func sequenceOf(id bson.RawValue) (first uint64, ok bool) {
	n, ok := id.AsInt64OK()
	if f, double := id.DoubleOK(); double && f != float64(n) {
		return 0, false
	}
	if !ok || n < 1 {
		return 0, false
	}
	return uint64(n), true
}

// placeOf says where a document stands.
func placeOf(coll *mongo.Collection, id bson.RawValue) string {
	return fmt.Sprintf("collection %s, _id %s", coll.Name(), shownValue(id))
}

// maxShown is how many bytes of a harmed document an error shows.
const maxShown = 200

func shown(doc bson.Raw) string { return shorten(doc.String()) }

func shownValue(v bson.RawValue) string {
	if v.IsZero() {
		return "(none)"
	}
	if n, ok := v.Int64OK(); ok {
		return strconv.FormatInt(n, 10)
	}
	return shorten(v.String())
}

func shorten(s string) string {
	if len(s) > maxShown {
		return s[:maxShown] + "…"
	}
	return s
}
