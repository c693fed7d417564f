package mongostore

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/projections/views"
)

// Visitors implements views.Store.
func (s *Store) Visitors(ctx context.Context, user uuid.UUID, p views.Page) ([]views.Visit, error) {
	return s.visitsList(ctx, visitors(user), "l", "a", p)
}

// Visits implements views.Store.
func (s *Store) Visits(ctx context.Context, user uuid.UUID, p views.Page) ([]views.Visit, error) {
	return s.visitsList(ctx, bson.D{{Key: "a", Value: userID(user)}}, "l", "t", p)
}

func (s *Store) visitsList(ctx context.Context, whose bson.D, at, other string, p views.Page) ([]views.Visit, error) {
	found, err := list[visitDoc](ctx, s.visits, whose, at, other, userID(p.After.User), p)
	out := make([]views.Visit, len(found))
	for i, d := range found {
		out[i] = views.Visit{User: d.Pair.other(other), Count: d.Count, FirstAt: timeOf(d.First), LastAt: timeOf(d.Last)}
	}
	return out, err
}

// LikesReceived implements views.Store.
func (s *Store) LikesReceived(ctx context.Context, user uuid.UUID, p views.Page) ([]views.Like, error) {
	return s.likesList(ctx, likers(user), "a", p)
}

// LikesGiven implements views.Store.
func (s *Store) LikesGiven(ctx context.Context, user uuid.UUID, p views.Page) ([]views.Like, error) {
	return s.likesList(ctx, bson.D{{Key: "a", Value: userID(user)}}, "t", p)
}

func (s *Store) likesList(ctx context.Context, whose bson.D, other string, p views.Page) ([]views.Like, error) {
	found, err := list[likeDoc](ctx, s.likes, whose, "at", other, userID(p.After.User), p)
	out := make([]views.Like, len(found))
	for i, d := range found {
		out[i] = views.Like{User: d.Pair.other(other), At: timeOf(*d.At)}
	}
	return out, err
}

// other is the user at the pair's other end, by the field that holds it.
func (p *pair) other(field string) uuid.UUID {
	if field == "a" {
		return uuid.UUID(p.Actor.Data)
	}
	return uuid.UUID(p.Target.Data)
}

// Matches implements views.Store. A user is the lower one in some matches and the
// higher one in others. Among a user's matches, sorting by _id, which is the lower
// ID and then the higher, is sorting by the other user.
func (s *Store) Matches(ctx context.Context, user uuid.UUID, p views.Page) ([]views.Like, error) {
	after := keyOf(p.After.User, user)
	if string(user[:]) < string(p.After.User[:]) {
		after = keyOf(user, p.After.User)
	}
	found, err := list[matchDoc](ctx, s.matches, matched(user), "at", "_id", after.stored(), p)
	out := make([]views.Like, len(found))
	for i, d := range found {
		other := uuid.UUID(d.Lower.User.Data)
		if other == user {
			other = uuid.UUID(d.Higher.User.Data)
		}
		out[i] = views.Like{User: other, At: timeOf(*d.At)}
	}
	return out, err
}

// What the lists and the numbers of a user select.
func visitors(user uuid.UUID) bson.D {
	return bson.D{{Key: "t", Value: userID(user)}, {Key: "h", Value: false}}
}

func likers(user uuid.UUID) bson.D {
	return bson.D{{Key: "t", Value: userID(user)}, {Key: "h", Value: false}}
}

func matched(user uuid.UUID) bson.D {
	return bson.D{{Key: "$or", Value: bson.A{
		bson.D{{Key: "lo.u", Value: userID(user)}, {Key: "hi.h", Value: false}},
		bson.D{{Key: "hi.u", Value: userID(user)}, {Key: "lo.h", Value: false}},
	}}}
}

// list reads a page of the documents that have the field at, newest first, then
// by the field id, greatest first. afterID is the mark's, as id holds it.
func list[D any](ctx context.Context, coll *collection, whose bson.D, at, id string, afterID bson.Binary, p views.Page) ([]D, error) {
	// An upper bound also leaves out documents that lack the field.
	upTo := int64(math.MaxInt64)
	filter := whose
	if !p.After.IsZero() {
		upTo = p.After.At.UnixMicro()
		filter = bson.D{{Key: "$and", Value: bson.A{whose, bson.D{{Key: "$or", Value: bson.A{
			bson.D{{Key: at, Value: bson.D{{Key: "$lt", Value: upTo}}}},
			bson.D{{Key: at, Value: upTo}, {Key: id, Value: bson.D{{Key: "$lt", Value: afterID}}}},
		}}}}}}
	}
	filter = append(filter[:len(filter):len(filter)], bson.E{Key: at, Value: bson.D{{Key: "$lte", Value: upTo}}})
	opts := options.Find().
		SetSort(bson.D{{Key: at, Value: -1}, {Key: id, Value: -1}}).
		SetLimit(int64(p.Limit)).
		SetBatchSize(int32(p.Limit)) //nolint:gosec // a page
	var found []D
	cur, err := coll.Find(ctx, filter, opts)
	if err == nil {
		err = cur.All(ctx, &found)
	}
	if err != nil {
		return nil, unanswered("list "+coll.Name(), err)
	}
	return found, nil
}

// Bonds implements views.Store, with one query each for hidden users and matches.
func (s *Store) Bonds(ctx context.Context, pairs []views.Pair) ([]views.Bond, error) {
	others := make([]bson.Binary, 0, len(pairs))
	couples := make([]bson.Binary, 0, len(pairs))
	for _, p := range pairs {
		others = append(others, userID(p.Other))
		couples = append(couples, coupleOf(p.User, p.Other).stored())
	}
	marked, err := find[hiddenDoc](ctx, s.hidden, others)
	if err != nil {
		return nil, unanswered("bonds", err)
	}
	matches, err := find[matchDoc](ctx, s.matches, couples)
	if err != nil {
		return nil, unanswered("bonds", err)
	}
	hidden := make(map[uuid.UUID]bool, len(marked))
	for _, d := range marked {
		hidden[uuid.UUID(d.ID.Data)] = d.Hidden
	}
	since := make(map[couple]time.Time, len(matches))
	for _, d := range matches {
		if d.At != nil {
			since[couple(d.ID.Data)] = timeOf(*d.At)
		}
	}
	out := make([]views.Bond, len(pairs))
	for i, p := range pairs {
		out[i] = views.Bond{Hidden: hidden[p.Other], MatchedAt: since[coupleOf(p.User, p.Other)]}
	}
	return out, nil
}

// Stats implements views.Store. Each number costs a scan of the user's entries in
// an index; the four scans run side by side.
func (s *Store) Stats(ctx context.Context, user uuid.UUID) (views.Stats, error) {
	var out views.Stats
	var errs [4]error
	var wg sync.WaitGroup
	wg.Go(func() { out.UniqueVisitors, out.VisitsReceived, errs[0] = s.sumVisits(ctx, visitors(user)) })
	wg.Go(func() { out.LikesReceived, errs[1] = count(ctx, s.likes, likers(user)) })
	wg.Go(func() { out.LikesGiven, errs[2] = count(ctx, s.likes, bson.D{{Key: "a", Value: userID(user)}}) })
	wg.Go(func() { out.Matches, errs[3] = count(ctx, s.matches, matched(user)) })
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return views.Stats{}, err
		}
	}
	return out, nil
}

func (s *Store) sumVisits(ctx context.Context, whose bson.D) (visitors, visits int64, err error) {
	pipeline := mongo.Pipeline{
		{{Key: "$match", Value: whose}},
		{{Key: "$group", Value: bson.D{
			{Key: "_id", Value: nil},
			{Key: "visitors", Value: bson.D{{Key: "$sum", Value: 1}}},
			{Key: "visits", Value: bson.D{{Key: "$sum", Value: "$n"}}},
		}}},
	}
	var sums []struct {
		Visitors int64 `bson:"visitors"`
		Visits   int64 `bson:"visits"`
	}
	cur, err := s.visits.Aggregate(ctx, pipeline)
	if err == nil {
		err = cur.All(ctx, &sums)
	}
	if err != nil {
		return 0, 0, unanswered("sum "+s.visits.Name(), err)
	}
	if len(sums) == 0 {
		return 0, 0, nil
	}
	return sums[0].Visitors, sums[0].Visits, nil
}

// count counts the documents of likes or matches that stand.
func count(ctx context.Context, coll *collection, whose bson.D) (int64, error) {
	n, err := coll.CountDocuments(ctx, append(whose, bson.E{Key: "at", Value: bson.D{{Key: "$lte", Value: int64(math.MaxInt64)}}}))
	if err != nil {
		return 0, unanswered("count "+coll.Name(), err)
	}
	return n, nil
}

// unanswered marks a query's error for what it means to who asked.
func unanswered(what string, err error) error {
	return fmt.Errorf("%s: %w: %w", what, views.ErrUnavailable, err)
}
