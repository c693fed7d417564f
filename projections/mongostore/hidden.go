package mongostore

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/projections/views"
)

// visibility is whether an actor is hidden, and the sequence of the event that
// said so; 0 if none did.
type visibility struct {
	Hidden    bool  `bson:"h"`
	HiddenPos int64 `bson:"hp"`
}

// hiddenDoc is a document of the registry of actors that were ever hidden.
type hiddenDoc struct {
	ID     bson.Binary `bson:"_id"`
	Hidden bool        `bson:"h"`
	Pos    int64       `bson:"p"`
}

// mark is what a batch says last of an actor's visibility.
type mark struct {
	actor uuid.UUID
	visibility
}

// marksOf are the marks of a batch, sorted by actor.
func marksOf(changes []views.Change) []mark {
	var marks []mark
	for _, c := range changes {
		if c.Kind == views.Hidden || c.Kind == views.Restored {
			marks = append(marks, mark{c.Actor, visibility{c.Kind == views.Hidden, int64(c.Sequence)}}) //nolint:gosec // logs end below 2⁶³
		}
	}
	slices.SortStableFunc(marks, func(a, b mark) int { return bytes.Compare(a.actor[:], b.actor[:]) })
	last := marks[:0]
	for i, m := range marks {
		if i+1 == len(marks) || marks[i+1].actor != m.actor {
			last = append(last, m)
		}
	}
	return last
}

// settleHidden brings the marks into the registry.
func (s *Store) settleHidden(ctx context.Context, marks []mark) error {
	ids := make([]bson.Binary, len(marks))
	for i := range marks {
		ids[i] = userID(marks[i].actor)
	}
	return settle(ctx, s.hidden, ids, func(found []hiddenDoc) ([]writing, error) {
		there := make(map[uuid.UUID]int64, len(found))
		for _, d := range found {
			there[uuid.UUID(d.ID.Data)] = d.Pos
		}
		var writes []writing
		for i, m := range marks {
			pos, ok := there[m.actor]
			switch {
			case !ok:
				writes = append(writes, writing{ids[i], mongo.NewInsertOneModel().SetDocument(hiddenDoc{ids[i], m.Hidden, m.HiddenPos})})
			case pos < m.HiddenPos:
				writes = append(writes, writing{ids[i], mongo.NewUpdateOneModel().
					SetFilter(bson.D{{Key: "_id", Value: ids[i]}, {Key: "p", Value: pos}}).
					SetUpdate(bson.D{{Key: "$set", Value: bson.D{{Key: "h", Value: m.Hidden}, {Key: "p", Value: m.HiddenPos}}}})})
			}
		}
		return writes, nil
	})
}

// markPairs marks all pairs of the actors that are there.
func (s *Store) markPairs(ctx context.Context, coll *collection, marks []mark) error {
	writes := make([]mongo.WriteModel, len(marks))
	for i, m := range marks {
		writes[i] = mongo.NewUpdateManyModel().
			SetFilter(bson.D{{Key: "a", Value: userID(m.actor)}, {Key: "hp", Value: bson.D{{Key: "$lt", Value: m.HiddenPos}}}}).
			SetUpdate(bson.D{{Key: "$set", Value: bson.D{{Key: "h", Value: m.Hidden}, {Key: "hp", Value: m.HiddenPos}}}})
	}
	return writeMarks(ctx, coll, writes)
}

// markMatches marks the actors' sides of all matches that are there.
func (s *Store) markMatches(ctx context.Context, marks []mark) error {
	writes := make([]mongo.WriteModel, 0, 2*len(marks))
	for _, m := range marks {
		for _, side := range []string{"lo", "hi"} {
			writes = append(writes, mongo.NewUpdateManyModel().
				SetFilter(bson.D{{Key: side + ".u", Value: userID(m.actor)}, {Key: side + ".hp", Value: bson.D{{Key: "$lt", Value: m.HiddenPos}}}}).
				SetUpdate(bson.D{
					{Key: "$set", Value: bson.D{{Key: side + ".h", Value: m.Hidden}, {Key: side + ".hp", Value: m.HiddenPos}}},
					{Key: "$inc", Value: bson.D{{Key: "r", Value: 1}}},
				}))
		}
	}
	return writeMarks(ctx, s.matches, writes)
}

func writeMarks(ctx context.Context, coll *collection, writes []mongo.WriteModel) error {
	if len(writes) == 0 {
		return nil
	}
	if _, err := coll.BulkWrite(ctx, writes, options.BulkWrite().SetOrdered(false)); err != nil {
		return fmt.Errorf("mark hidden actors in %s: %w", coll.Name(), err)
	}
	return nil
}
