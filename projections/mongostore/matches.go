package mongostore

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// matchDoc is a document of the matches. There is one for every two users of whom
// each has a document of liking the other, whether or not the likes stand.
type matchDoc struct {
	ID       bson.Binary `bson:"_id"`
	Lower    side        `bson:"lo"`
	Higher   side        `bson:"hi"`
	At       *int64      `bson:"at,omitempty"`
	Revision int64       `bson:"r"`
}

// side is a copy of what one user's like of the other is.
type side struct {
	User    bson.Binary `bson:"u"`
	At      *int64      `bson:"at,omitempty"`
	Pos     int64       `bson:"p"`
	Visible visibility  `bson:",inline"`
}

// merge takes over what of the like is newer than the side, and says whether
// anything was.
func (s *side) merge(l *likeDoc) (changed bool) {
	if l.Pair.Pos > s.Pos {
		s.At, s.Pos, changed = l.At, l.Pair.Pos, true
	}
	if l.Pair.Visible.HiddenPos > s.Visible.HiddenPos {
		s.Visible, changed = l.Pair.Visible, true
	}
	return changed
}

// conclude sets since when the two match.
func (d *matchDoc) conclude() {
	d.At = nil
	if d.Lower.At != nil && d.Higher.At != nil {
		d.At = new(max(*d.Lower.At, *d.Higher.At))
	}
}

// couple is two users, the lower ID first.
type couple = pairKey

func coupleOf(a, b uuid.UUID) couple {
	if bytes.Compare(a[:], b[:]) > 0 {
		return keyOf(b, a)
	}
	return keyOf(a, b)
}

// couplesOf are the couples of the pairs, sorted, each once.
func couplesOf(groups []changesOf) []couple {
	couples := make([]couple, len(groups))
	for i, g := range groups {
		couples[i] = coupleOf(g.key.first(), g.key.second())
	}
	slices.SortFunc(couples, func(a, b couple) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(couples)
}

// settleMatches brings the likes of the pairs' users, both ways, into their
// matches, and reads the likes again after each write until that brings nothing.
func (s *Store) settleMatches(ctx context.Context, groups []changesOf) error {
	couples := couplesOf(groups)
	for range maxRounds {
		changed, err := s.copyLikes(ctx, couples)
		if err != nil || len(changed) == 0 {
			return err
		}
		couples = changed
	}
	return fmt.Errorf("write to %s: %w", s.matches.Name(), errContended)
}

// copyLikes copies once, and returns the couples that it tried to write.
func (s *Store) copyLikes(ctx context.Context, couples []couple) (changed []couple, err error) {
	likes, mutual, err := s.mutualLikes(ctx, couples)
	if err != nil || len(mutual) == 0 {
		return nil, err
	}
	ids := make([]bson.Binary, len(mutual))
	for i := range mutual {
		ids[i] = mutual[i].stored()
	}
	found, err := find[matchDoc](ctx, s.matches, ids)
	if err != nil {
		return nil, err
	}
	there := make(map[couple]*matchDoc, len(found))
	for i := range found {
		there[couple(found[i].ID.Data)] = &found[i]
	}
	var writes []writing
	for i, c := range mutual {
		d, ok := there[c]
		if !ok {
			d = &matchDoc{ID: ids[i]}
			d.Lower.User, d.Higher.User = userID(c.first()), userID(c.second())
		}
		lower := d.Lower.merge(likes[c])
		higher := d.Higher.merge(likes[keyOf(c.second(), c.first())])
		if !lower && !higher {
			continue
		}
		d.conclude()
		changed = append(changed, c)
		d.Revision++
		if !ok {
			writes = append(writes, writing{d.ID, mongo.NewInsertOneModel().SetDocument(d)})
			continue
		}
		writes = append(writes, writing{d.ID, mongo.NewReplaceOneModel().
			SetFilter(bson.D{{Key: "_id", Value: d.ID}, {Key: "r", Value: d.Revision - 1}}).SetReplacement(d)})
	}
	if len(writes) > 0 {
		// Whether all of it met what was found shows in the next round.
		if _, err := write(ctx, s.matches, writes); err != nil {
			return nil, err
		}
	}
	return changed, nil
}

// mutualLikes reads the likes between the couples' users, and returns those
// couples that have one each way.
func (s *Store) mutualLikes(ctx context.Context, couples []couple) (map[pairKey]*likeDoc, []couple, error) {
	ids := make([]bson.Binary, 0, 2*len(couples))
	for _, c := range couples {
		reverse := keyOf(c.second(), c.first())
		ids = append(ids, c.stored(), reverse.stored())
	}
	found, err := find[likeDoc](ctx, s.likes, ids)
	if err != nil {
		return nil, nil, err
	}
	likes := make(map[pairKey]*likeDoc, len(found))
	for i := range found {
		likes[pairKey(found[i].Pair.ID.Data)] = &found[i]
	}
	var mutual []couple
	for _, c := range couples {
		if likes[c] != nil && likes[keyOf(c.second(), c.first())] != nil {
			mutual = append(mutual, c)
		}
	}
	return likes, mutual, nil
}
