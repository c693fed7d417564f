package mongostore

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/meet5/backend/projections/views"
)

// pair is what the documents of visits and likes have in common. (It is a field
// of theirs, not embedded: the driver leaves out what is embedded and not
// exported.)
type pair struct {
	ID      bson.Binary `bson:"_id"`
	Actor   bson.Binary `bson:"a"`
	Target  bson.Binary `bson:"t"`
	Pos     int64       `bson:"p"`
	Visible visibility  `bson:",inline"`
}

// pairDoc is a document of a pair, a pointer to D.
type pairDoc[D any] interface {
	*D
	common() *pair
	// fold brings the changes in, all but their position.
	fold(changes []views.Change)
	// fields are those that fold may have changed.
	fields() (set, unset bson.D)
}

// changesOf are a batch's changes of one pair, in order.
type changesOf struct {
	key     pairKey
	changes []views.Change
}

func (c changesOf) last() int64 {
	return int64(c.changes[len(c.changes)-1].Sequence) //nolint:gosec // logs end below 2⁶³
}

// after are those with a higher sequence.
func (c changesOf) after(position int64) []views.Change {
	for i := range c.changes {
		if int64(c.changes[i].Sequence) > position { //nolint:gosec // logs end below 2⁶³
			return c.changes[i:]
		}
	}
	return nil
}

// byPair groups the changes of some kinds by their pair, sorted by it. That order
// lets two who write the same documents at once meet in the same order, and none
// waits for the other in a circle.
func byPair(changes []views.Change, kinds ...views.Kind) []changesOf {
	var own []views.Change
	for _, c := range changes {
		if slices.Contains(kinds, c.Kind) {
			own = append(own, c)
		}
	}
	slices.SortStableFunc(own, func(a, b views.Change) int {
		if n := bytes.Compare(a.Actor[:], b.Actor[:]); n != 0 {
			return n
		}
		return bytes.Compare(a.Target[:], b.Target[:])
	})
	var groups []changesOf
	for start := 0; start < len(own); {
		end := start + 1
		for end < len(own) && own[end].Actor == own[start].Actor && own[end].Target == own[start].Target {
			end++
		}
		groups = append(groups, changesOf{key: keyOf(own[start].Actor, own[start].Target), changes: own[start:end]})
		start = end
	}
	return groups
}

// settlePairs brings the changes into their documents. It asks for the pairs and for
// the visibility of their actors at once.
func settlePairs[D any, P pairDoc[D]](ctx context.Context, s *Store, coll *collection, partition int, groups []changesOf) error {
	ids := make([]bson.Binary, len(groups))
	for i := range groups {
		ids[i] = groups[i].key.stored()
	}
	var registered map[uuid.UUID]visibility
	var registryErr error
	var asking sync.WaitGroup
	asking.Go(func() { registered, registryErr = s.visibilityOf(ctx, partition, groups) })
	defer asking.Wait()
	return settle(ctx, coll, ids, func(found []D) ([]writing, error) {
		there := make(map[pairKey]P, len(found))
		for i := range found {
			d := P(&found[i])
			there[pairKey(d.common().ID.Data)] = d
		}
		if asking.Wait(); registryErr != nil {
			return nil, registryErr
		}
		var writes []writing
		for i, g := range groups {
			if d, ok := there[g.key]; !ok {
				d = P(new(D))
				actor := g.key.first()
				*d.common() = pair{ID: ids[i], Actor: userID(actor), Target: userID(g.key.second()), Pos: g.last(), Visible: registered[actor]}
				d.fold(g.changes)
				writes = append(writes, writing{ids[i], mongo.NewInsertOneModel().SetDocument(d)})
			} else if changes := g.after(d.common().Pos); len(changes) > 0 {
				d.fold(changes)
				writes = append(writes, update(d, g.last()))
			}
		}
		return writes, nil
	})
}

// update writes the document's fields over the position that was found.
func update[D any, P pairDoc[D]](d P, position int64) writing {
	set, unset := d.fields()
	set = append(set, bson.E{Key: "p", Value: position})
	change := bson.D{{Key: "$set", Value: set}}
	if len(unset) > 0 {
		change = append(change, bson.E{Key: "$unset", Value: unset})
	}
	p := d.common()
	return writing{p.ID, mongo.NewUpdateOneModel().
		SetFilter(bson.D{{Key: "_id", Value: p.ID}, {Key: "p", Value: p.Pos}}).
		SetUpdate(change)}
}
