package mongoledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events/subscription"
)

// checkpointDocument is a checkpoint as it is read. What Save writes has no n.
type checkpointDocument struct {
	ID       string  `bson:"_id"`
	Sequence int64   `bson:"sequence"`
	N        int64   `bson:"n"`
	At       *int64  `bson:"at"`
	Rate     float64 `bson:"rate"`
	Failure  string  `bson:"failure"`
}

func (d *checkpointDocument) checkpoint() (subscription.Checkpoint, error) {
	at, err := placeOf(d.ID)
	if err != nil {
		return subscription.Checkpoint{}, err
	}
	sequence, err := sequenceOf(max(d.Sequence, d.N))
	if err != nil {
		return subscription.Checkpoint{}, fmt.Errorf("checkpoint %q: %w", d.ID, err)
	}
	c := subscription.Checkpoint{Place: at, Sequence: sequence, Rate: d.Rate, Failure: d.Failure}
	if d.At != nil {
		c.At = time.UnixMicro(*d.At).UTC()
	}
	return c, nil
}

// Load implements subscription.Checkpoints.
func (l *Ledger) Load(ctx context.Context, at subscription.Place) (subscription.Checkpoint, error) {
	c, err := l.load(ctx, at)
	if err != nil {
		return subscription.Checkpoint{}, fmt.Errorf("load checkpoint %v: %w", at, err)
	}
	return c, nil
}

func (l *Ledger) load(ctx context.Context, at subscription.Place) (subscription.Checkpoint, error) {
	id, err := placeID(at)
	if err != nil {
		return subscription.Checkpoint{}, err
	}
	var d checkpointDocument
	err = l.checkpoints.FindOne(ctx, bson.D{field("_id", id)}).Decode(&d)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return subscription.Checkpoint{Place: at}, nil
	}
	if err != nil {
		return subscription.Checkpoint{}, err
	}
	return d.checkpoint()
}

// Save implements subscription.Checkpoints.
func (l *Ledger) Save(ctx context.Context, c subscription.Checkpoint) error {
	if err := l.save(ctx, c); err != nil {
		return fmt.Errorf("save checkpoint %v: %w", c.Place, err)
	}
	return nil
}

func (l *Ledger) save(ctx context.Context, c subscription.Checkpoint) error {
	id, err := placeID(c.Place)
	if err != nil {
		return err
	}
	sequence, err := stored(c.Sequence)
	if err != nil {
		return err
	}
	update := bson.D{
		field("$max", bson.D{field("sequence", sequence)}),
		field("$set", bson.D{
			field("group", c.Group), field("log", c.Log), field("partition", c.Partition),
			field("at", c.At.UnixMicro()), field("rate", c.Rate), field("failure", c.Failure),
		}),
	}
	for {
		_, err := l.checkpoints.UpdateByID(ctx, id, update, options.UpdateOne().SetUpsert(true))
		if err == nil || !raced(err) {
			return err
		}
	}
}

// List implements subscription.Ledger.
func (l *Ledger) List(ctx context.Context) ([]subscription.Checkpoint, error) {
	var docs []checkpointDocument
	cur, err := l.checkpoints.Find(ctx, bson.D{})
	if err == nil {
		err = cur.All(ctx, &docs)
	}
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	out := make([]subscription.Checkpoint, len(docs))
	for i := range docs {
		if out[i], err = docs[i].checkpoint(); err != nil {
			return nil, fmt.Errorf("list checkpoints: %w", err)
		}
	}
	// Sorted here: those of earlier builds have no fields to sort by.
	slices.SortFunc(out, func(a, b subscription.Checkpoint) int { return a.Place.Compare(b.Place) })
	return out, nil
}
