package mongostore

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/meet5/backend/projections/views"
)

// visitDoc is a document of the visits.
type visitDoc struct {
	Pair  pair  `bson:",inline"`
	Count int64 `bson:"n"`
	First int64 `bson:"f"`
	Last  int64 `bson:"l"`
}

func (d *visitDoc) common() *pair { return &d.Pair }

func (d *visitDoc) fold(changes []views.Change) {
	for _, c := range changes {
		at := c.At.UnixMicro()
		if d.Count == 0 {
			d.First, d.Last = at, at
		}
		d.Count++
		d.First, d.Last = min(d.First, at), max(d.Last, at)
	}
}

func (d *visitDoc) fields() (set, unset bson.D) { //nolint:unparam // other documents unset some
	return bson.D{{Key: "n", Value: d.Count}, {Key: "f", Value: d.First}, {Key: "l", Value: d.Last}}, nil
}

// addVisits brings in visits that all come after what their documents hold, without
// reading first: one trip, which is what a few of them cost most by. It says false
// if that does not show, because a document holds some of them already or somebody
// made it just now; what was written counts once all the same.
func (s *Store) addVisits(ctx context.Context, partition int, groups []changesOf) (done bool, err error) {
	visible, err := s.visibilityOf(ctx, partition, groups)
	if err != nil {
		return false, err
	}
	writes := make([]writing, len(groups))
	for i, g := range groups {
		var d visitDoc
		d.fold(g.changes)
		v := visible[g.key.first()]
		before := bson.D{{Key: "$lt", Value: int64(g.changes[0].Sequence)}} //nolint:gosec // logs end below 2⁶³
		writes[i] = writing{g.key.stored(), mongo.NewUpdateOneModel().SetUpsert(true).
			SetFilter(bson.D{{Key: "_id", Value: g.key.stored()}, {Key: "p", Value: before}}).
			SetUpdate(bson.D{
				{Key: "$inc", Value: bson.D{{Key: "n", Value: d.Count}}},
				{Key: "$min", Value: bson.D{{Key: "f", Value: d.First}}},
				{Key: "$max", Value: bson.D{{Key: "l", Value: d.Last}}},
				{Key: "$set", Value: bson.D{{Key: "p", Value: g.last()}}},
				{Key: "$setOnInsert", Value: bson.D{
					{Key: "a", Value: userID(g.key.first())}, {Key: "t", Value: userID(g.key.second())},
					{Key: "h", Value: v.Hidden}, {Key: "hp", Value: v.HiddenPos},
				}},
			})}
	}
	return write(ctx, s.visits, writes)
}
