package mongolog

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

var _ log.Gister = (*Store)(nil)

// gistPage bounds the commits of a query for gists, which have 64 KiB at most.
const gistPage = 64

// The layout of a gist: microseconds since 1970, big-endian, and the events' IDs.
const (
	gistHeader = 8
	gistPerID  = len(uuid.UUID{})
)

func gistOf(c events.Commit) []byte {
	b := make([]byte, gistHeader, gistHeader+c.Count*gistPerID)
	binary.BigEndian.PutUint64(b, uint64(c.RecordedAt.UnixMicro())) //nolint:gosec // two's complement on purpose
	return c.AppendIDs(b)
}

// Gists implements log.Gister.
func (s *Store) Gists(ctx context.Context, partition int, after uint64) iter.Seq2[log.Gist, error] {
	return func(yield func(log.Gist, error) bool) {
		emit := func(g log.Gist) bool { return yield(g, nil) }
		if err := s.gists(ctx, partition, after, emit); err != nil {
			yield(log.Gist{}, fmt.Errorf("read gists of %s/%d after %d: %w", s.name, partition, after, err))
		}
	}
}

func (s *Store) gists(ctx context.Context, partition int, after uint64, emit func(log.Gist) bool) error {
	coll, err := s.collection(partition)
	if err != nil {
		return err
	}
	for {
		from := bson.D{{Key: fieldFirst, Value: bson.D{{Key: "$gt", Value: int64(after)}}}} //nolint:gosec // a stored sequence
		opts := options.Find().
			SetSort(bson.D{{Key: fieldFirst, Value: 1}}).
			SetProjection(bson.D{{Key: fieldFirst, Value: 1}, {Key: fieldGist, Value: 1}})
		docs, err := find(ctx, coll, from, opts, gistPage)
		if err != nil {
			return err
		}
		for _, doc := range docs {
			g, stored, err := s.gist(partition, doc)
			if err == nil && !stored {
				return s.gistsInFull(ctx, partition, after, emit)
			}
			if err != nil {
				return err
			}
			if g.First != after+1 {
				return fmt.Errorf("%w: commit %d follows sequence %d", events.ErrCorrupt, g.First, after)
			}
			after += uint64(len(g.IDs))
			if !emit(g) {
				return nil
			}
		}
		if len(docs) < gistPage {
			return nil
		}
	}
}

// gistsInFull makes the gists of whole commits.
func (s *Store) gistsInFull(ctx context.Context, partition int, after uint64, emit func(log.Gist) bool) error {
	for c, err := range s.Read(ctx, partition, after) {
		if err != nil {
			return err
		}
		if g, _ := parseGist(c.First, gistOf(c)); !emit(g) {
			return nil
		}
	}
	return nil
}

// gist reads the gist that is stored in a document, if there is one.
func (s *Store) gist(partition int, doc bson.Raw) (g log.Gist, stored bool, err error) {
	value := doc.Lookup(fieldGist)
	first, ok := sequenceOf(doc.Lookup(fieldFirst))
	if ok && value.IsZero() {
		return log.Gist{}, false, nil
	}
	_, b, isBinary := value.BinaryOK()
	g, whole := parseGist(first, b)
	if !ok || !isBinary || !whole {
		return log.Gist{}, true, fmt.Errorf("%s: %w: its gist is %s", placeOf(s.parts[partition], doc.Lookup(fieldFirst)), events.ErrCorrupt, shownValue(value))
	}
	return g, true, nil
}

func parseGist(first uint64, b []byte) (g log.Gist, ok bool) {
	n := (len(b) - gistHeader) / gistPerID
	if n < 1 || n > events.MaxCommitEvents || len(b) != gistHeader+n*gistPerID {
		return log.Gist{}, false
	}
	g = log.Gist{
		First:      first,
		RecordedAt: time.UnixMicro(int64(binary.BigEndian.Uint64(b))).UTC(), //nolint:gosec // two's complement on purpose
		IDs:        make([]uuid.UUID, n),
	}
	for i := range g.IDs {
		copy(g.IDs[i][:], b[gistHeader+i*gistPerID:])
	}
	return g, true
}
