package mongoledger

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events/subscription"
)

// byPlace is the order in which what is parked is read, which an index has.
var byPlace = bson.D{field("group", 1), field("log", 1), field("partition", 1), field("sequence", 1)}

// parkedDocument is a parked event as it is read.
type parkedDocument struct {
	ID        string      `bson:"_id"`
	Group     string      `bson:"group"`
	Log       string      `bson:"log"`
	Partition int         `bson:"partition"`
	Sequence  int64       `bson:"sequence"`
	Event     bson.Binary `bson:"event"`
	Type      string      `bson:"type"`
	Key       bson.Binary `bson:"key"`
	Reason    string      `bson:"reason"`
	Attempts  int         `bson:"attempts"`
	ParkedAt  int64       `bson:"parked_at"`
	Order     string      `bson:"order"`
	Drop      bool        `bson:"drop"`
}

func (d *parkedDocument) parked() (subscription.Parked, error) {
	p := subscription.Parked{
		Place: subscription.Place{Group: d.Group, Log: d.Log, Partition: d.Partition},
		Type:  d.Type, Reason: d.Reason, Attempts: d.Attempts,
		ParkedAt: time.UnixMicro(d.ParkedAt).UTC(), Order: subscription.Order(d.Order),
	}
	if d.Drop {
		p.Order = subscription.Drop
	}
	var err error
	if p.Sequence, err = sequenceOf(d.Sequence); err != nil {
		return p, fmt.Errorf("parked event %q: %w", d.ID, err)
	}
	if p.Event, err = uuid.FromBytes(d.Event.Data); err != nil {
		return p, fmt.Errorf("parked event %q: its event's ID: %w", d.ID, err)
	}
	if p.Key, err = uuid.FromBytes(d.Key.Data); err != nil {
		return p, fmt.Errorf("parked event %q: its key: %w", d.ID, err)
	}
	return p, nil
}

// parkedID is a parked event's _id. Those of a place sort as the sequences do.
func parkedID(at subscription.Place, sequence uint64) (string, error) {
	id, err := placeID(at)
	if err != nil {
		return "", err
	}
	n, err := stored(sequence)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s/%019d", id, n), nil
}

// orderFields sets an order. That an event is to be dropped is in a field of its
// own, which it takes another order to take back and not just none.
func orderFields(order subscription.Order) bson.D {
	if order == subscription.Drop {
		return bson.D{field("drop", true)}
	}
	return bson.D{field("order", string(order))}
}

func binaryOf(id uuid.UUID) bson.Binary {
	return bson.Binary{Subtype: bson.TypeBinaryUUID, Data: id[:]}
}

// Park implements subscription.Ledger.
func (l *Ledger) Park(ctx context.Context, list ...subscription.Parked) error {
	if len(list) == 0 {
		return nil
	}
	// In order, as a server that takes all in one transaction locks them: two calls
	// that park the same events must not wait for each other. Of an event that is
	// given twice, the last counts.
	list = slices.Clone(list)
	slices.SortStableFunc(list, subscription.Parked.Compare)
	writes := make([]mongo.WriteModel, len(list))
	for i, p := range list {
		id, err := parkedID(p.Place, p.Sequence)
		if err != nil {
			return fmt.Errorf("park %v at %d: %w", p.Place, p.Sequence, err)
		}
		set := append(bson.D{
			field("group", p.Group), field("log", p.Log), field("partition", p.Partition),
			field("sequence", int64(p.Sequence)), //nolint:gosec // parkedID has checked it
			field("event", binaryOf(p.Event)), field("type", p.Type), field("key", binaryOf(p.Key)),
			field("reason", strings.ToValidUTF8(p.Reason, "\uFFFD")), field("attempts", p.Attempts),
		}, orderFields(p.Order)...)
		writes[i] = mongo.NewUpdateOneModel().SetFilter(bson.D{field("_id", id)}).SetUpsert(true).SetUpdate(bson.D{
			field("$set", set), field("$setOnInsert", bson.D{field("parked_at", p.ParkedAt.UnixMicro())}),
		})
	}
	for {
		_, err := l.parked.BulkWrite(ctx, writes, options.BulkWrite().SetOrdered(true))
		if err == nil {
			return nil
		}
		if !raced(err) {
			return fmt.Errorf("park %d events of %v: %w", len(list), list[0].Place, err)
		}
	}
}

// Parked implements subscription.Ledger.
func (l *Ledger) Parked(ctx context.Context, at subscription.Place) ([]subscription.Parked, error) {
	filter := bson.D{}
	if at != (subscription.Place{}) {
		filter = bson.D{field("group", at.Group), field("log", at.Log), field("partition", at.Partition)}
	}
	var docs []parkedDocument
	cur, err := l.parked.Find(ctx, filter, options.Find().SetSort(byPlace).SetLimit(subscription.MaxParked))
	if err == nil {
		err = cur.All(ctx, &docs)
	}
	if err != nil {
		return nil, fmt.Errorf("read what is parked at %v: %w", at, err)
	}
	out := make([]subscription.Parked, len(docs))
	for i := range docs {
		if out[i], err = docs[i].parked(); err != nil {
			return nil, fmt.Errorf("read what is parked at %v: %w", at, err)
		}
	}
	return out, nil
}

// Unpark implements subscription.Ledger.
func (l *Ledger) Unpark(ctx context.Context, at subscription.Place, sequence uint64) error {
	id, err := parkedID(at, sequence)
	if err == nil {
		_, err = l.parked.DeleteOne(ctx, bson.D{field("_id", id)})
	}
	if err != nil {
		return fmt.Errorf("unpark %v at %d: %w", at, sequence, err)
	}
	return nil
}

// Order implements subscription.Ledger.
func (l *Ledger) Order(ctx context.Context, at subscription.Place, sequence uint64, order subscription.Order) error {
	id, err := parkedID(at, sequence)
	if err == nil {
		set := orderFields(order)
		if order != subscription.Drop {
			set = append(set, field("drop", false))
		}
		var res *mongo.UpdateResult
		res, err = l.parked.UpdateByID(ctx, id, bson.D{field("$set", set)})
		if err == nil && res.MatchedCount == 0 {
			err = subscription.ErrNotParked
		}
	}
	if err != nil {
		return fmt.Errorf("order to %s %v at %d: %w", order, at, sequence, err)
	}
	return nil
}
