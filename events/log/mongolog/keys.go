package mongolog

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events"
)

// maxHeld is how many keys one query asks for, well below what a query's
// document can hold.
const maxHeld = 10_000

func encodeKey(key string) string { return hex.EncodeToString([]byte(key)) }

func encodeKeys(keys []string) []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = encodeKey(k)
	}
	return out
}

// Held implements log.Store.
func (s *Store) Held(ctx context.Context, partition int, keys []string) (map[string]bool, error) {
	held := make(map[string]bool)
	for some := range slices.Chunk(keys, maxHeld) {
		if err := s.held(ctx, partition, some, held); err != nil {
			return nil, fmt.Errorf("look up %d keys of %s/%d: %w", len(keys), s.name, partition, err)
		}
	}
	return held, nil
}

func (s *Store) held(ctx context.Context, partition int, keys []string, held map[string]bool) error {
	coll, err := s.collection(partition)
	if err != nil {
		return err
	}
	wanted := make(map[string]string, len(keys))
	for _, k := range keys {
		wanted[encodeKey(k)] = k
	}
	filter := bson.D{{Key: fieldKeys, Value: bson.D{withKeys, {Key: "$in", Value: encodeKeys(keys)}}}}
	only := bson.D{{Key: fieldFirst, Value: 0}, {Key: fieldKeys, Value: 1}}
	cur, err := coll.Find(ctx, filter, options.Find().SetProjection(only))
	if err != nil {
		return err
	}
	var docs []struct {
		Keys []string `bson:"k"`
	}
	if err := cur.All(ctx, &docs); err != nil {
		return err
	}
	for _, doc := range docs {
		for _, h := range doc.Keys {
			if k, ok := wanted[h]; ok {
				held[k] = true
			}
		}
	}
	return nil
}

// ByKey implements log.Store.
func (s *Store) ByKey(ctx context.Context, partition int, from, to string) ([]events.Commit, error) {
	if from >= to {
		return nil, nil
	}
	commits, err := s.byKey(ctx, partition, from, to)
	if err != nil {
		return nil, fmt.Errorf("look up commits by key of %s/%d: %w", s.name, partition, err)
	}
	return commits, nil
}

func (s *Store) byKey(ctx context.Context, partition int, from, to string) ([]events.Commit, error) {
	coll, err := s.collection(partition)
	if err != nil {
		return nil, err
	}
	// $elemMatch, because without it one key of a commit may meet the one bound
	// and another key the other.
	within := bson.D{{Key: "$gte", Value: encodeKey(from)}, {Key: "$lt", Value: encodeKey(to)}}
	filter := bson.D{{Key: fieldKeys, Value: bson.D{withKeys, {Key: "$elemMatch", Value: within}}}}
	cur, err := coll.Find(ctx, filter, commitsInOrder())
	if err != nil {
		return nil, err
	}
	var docs []bson.Raw
	if err := cur.All(ctx, &docs); err != nil {
		return nil, err
	}
	commits := make([]events.Commit, len(docs))
	for i, doc := range docs {
		if commits[i], err = s.commit(partition, doc); err != nil {
			return nil, err
		}
	}
	return commits, nil
}
