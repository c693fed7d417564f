package mongostore

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

func checkpointID(group, log string, partition int) string {
	return fmt.Sprintf("%s/%s/%d", group, log, partition)
}

// Load implements subscription.Checkpoints.
func (s *Store) Load(ctx context.Context, group, log string, partition int) (uint64, error) {
	id := checkpointID(group, log, partition)
	var d struct {
		Sequence int64 `bson:"n"`
	}
	err := s.checkpoints.FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Decode(&d)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("load checkpoint %s: %w", id, err)
	}
	return uint64(d.Sequence), nil //nolint:gosec // Save writes no negative ones
}

// Save implements subscription.Checkpoints.
func (s *Store) Save(ctx context.Context, group, log string, partition int, sequence uint64) error {
	id := checkpointID(group, log, partition)
	forward := bson.D{{Key: "$max", Value: bson.D{{Key: "n", Value: int64(sequence)}}}} //nolint:gosec // logs end below 2⁶³
	for {
		_, err := s.checkpoints.UpdateByID(ctx, id, forward, options.UpdateOne().SetUpsert(true))
		if err == nil {
			return nil
		}
		if !mongo.IsDuplicateKeyError(err) { // a duplicate: another was first to insert it
			return fmt.Errorf("save checkpoint %s: %w", id, err)
		}
	}
}
