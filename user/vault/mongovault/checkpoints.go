package mongovault

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/meet5/backend/events/subscription"
)

const fieldSequence = "sequence"

// checkpoints is {_id: group, log and partition, sequence}.
type checkpoints struct{ coll *mongo.Collection }

type checkpointDocument struct {
	ID       string `bson:"_id"`
	Sequence int64  `bson:"sequence"`
}

// Checkpoints implements vault.Vault.
func (v *Vault) Checkpoints() subscription.Checkpoints { return checkpoints{v.checkpoints} }

func checkpointID(group, log string, partition int) string {
	return fmt.Sprintf("%s/%s/%d", group, log, partition)
}

func (c checkpoints) Load(ctx context.Context, group, log string, partition int) (uint64, error) {
	var d checkpointDocument
	err := c.coll.FindOne(ctx, bson.D{{Key: "_id", Value: checkpointID(group, log, partition)}}).Decode(&d)
	if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
		return 0, fault("load a checkpoint", err)
	}
	return uint64(d.Sequence), nil //nolint:gosec // written by Save
}

func (c checkpoints) Save(ctx context.Context, group, log string, partition int, sequence uint64) error {
	d := checkpointDocument{checkpointID(group, log, partition), int64(sequence)} //nolint:gosec // a count of events
	_, err := c.coll.InsertOne(ctx, d)
	if mongo.IsDuplicateKeyError(err) {
		_, err = c.coll.UpdateOne(ctx, bson.D{{Key: "_id", Value: d.ID}},
			bson.D{{Key: "$max", Value: bson.D{{Key: fieldSequence, Value: d.Sequence}}}})
	}
	if err != nil {
		return fault("save a checkpoint", err)
	}
	return nil
}
