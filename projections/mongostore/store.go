// Package mongostore keeps the read models in MongoDB.
//
// It promises, beside what views.Store says:
//   - it needs neither transactions nor change streams: what writers meet at is
//     _id, and each write to a document names the position that it found there;
//   - a process may die at any point of a batch, and what it had sent may arrive
//     late: applying the batch again, cut in any way, mends it;
//   - a list is read along an index, never sorted from a collection's whole; the
//     numbers of a user are counted along an index when they are asked for, so
//     that they cost as much as the user has visitors, likes and matches;
//   - what was acknowledged is on a majority of the replica set, and reads see
//     what a majority has;
//   - what partitions bring side by side, a few events each, shares its trips to the
//     server, so that a visit is seen as soon as the server can.
//
// The collections, with times as microseconds since 1970:
//
//	visits       {_id: actor‖target, a: actor, t: target, n: count, f: first,
//	             l: last, p: position, h: actor hidden, hp: position of that}
//	likes        {_id: actor‖target, a, t, at: since when, absent if withdrawn,
//	             p, h, hp}
//	matches      {_id: lower‖higher user, lo: {u: user, at, p, h, hp}, hi: {…},
//	             at: since when, absent if they do not match, r: revision}
//	hidden       {_id: actor, h: hidden now, p}
//
// There may be several versions of them side by side, each of which is folded by
// itself: the collections of version 2 are visits_v2, likes_v2 and so on.
//
// How each event takes effect once. A pair belongs to its actor, hence to one
// partition, and p is the sequence of the pair's last event that is in the
// document. To fold a batch in, the documents are read, what comes after p is
// folded, and the result is inserted, or written over the very p that was found.
// Whoever is second at that reads again. So a batch may be cut, repeated and
// raced at will, and reading first makes new pairs plain inserts, which a server
// takes several times as fast as upserts. A few visits, which cost most by the
// trips to the server, are added by upserts under the guard that the document
// holds none of them yet; where that does not show, they take the way above.
//
// Whether a pair's actor is hidden is a register of its own, ordered by hp. A
// batch first writes the registry, then brings in its pairs (a new one takes its
// actor's state from the registry), then marks all pairs of the actors that it
// hides or restores. A pair that comes in later finds the registry; one that was
// there is marked.
//
// A match is made of two likes in two partitions. Whoever writes a like reads
// both afterwards: of two at once, one sees both. Each side of a match is a copy
// of the like, and the one with the higher position wins, so that it does not
// matter who copies when. After writing a match, the likes are read again, until
// nothing is left to copy: an actor who was hidden meanwhile is seen.
//
// Late batches need nothing more, since no position is a batch's: p, hp and those
// of a match's sides are only ever compared with positions of the same actor, and
// an actor's events come in order even where others of the partition have gone
// ahead. What is later than p has not been folded and what is not later has, and
// the same goes for the registry, the marks and the copies in a match. Two who
// work on one partition at once may be at different places of an actor's events;
// whoever is behind has had its work done by the other.
package mongostore

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/meet5/backend/projections/views"
)

// Names of the collections.
const (
	visitsName  = "visits"
	likesName   = "likes"
	matchesName = "matches"
	hiddenName  = "hidden"
)

// FirstVersion is the version that Create makes.
const FirstVersion = 1

// nameIn is a collection's name in a version.
func nameIn(version int, name string) string {
	if version == FirstVersion {
		return name
	}
	return fmt.Sprintf("%s_v%d", name, version)
}

// Store is a views.Store in a database: one version of the read models.
type Store struct {
	version                        int
	visits, likes, matches, hidden *collection
	registry                       registry
}

var _ views.Store = (*Store)(nil)

// Open returns the first version in a database.
func Open(db *mongo.Database) *Store { return OpenVersion(db, FirstVersion) }

// OpenVersion returns a version in a database. It does no I/O: the collections
// must have been made with CreateVersion, which Check verifies.
func OpenVersion(db *mongo.Database, version int) *Store {
	opts := options.Collection().
		SetReadConcern(readconcern.Majority()).
		SetReadPreference(readpref.Primary()).
		SetWriteConcern(writeconcern.Majority())
	in := func(name string) *collection { return newCollection(db.Collection(nameIn(version, name), opts)) }
	return &Store{version: version, visits: in(visitsName), likes: in(likesName), matches: in(matchesName), hidden: in(hiddenName)}
}

// userID is a user's ID as it is stored. Binary values of one length and subtype
// sort bytewise, as lists want it.
func userID(id uuid.UUID) bson.Binary {
	return bson.Binary{Subtype: bson.TypeBinaryUUID, Data: id[:]}
}

// pairKey is two users' IDs, one after the other.
type pairKey [32]byte

func keyOf(a, b uuid.UUID) (k pairKey) {
	copy(k[:], a[:])
	copy(k[16:], b[:])
	return k
}

func (k pairKey) first() uuid.UUID  { return uuid.UUID(k[:16]) }
func (k pairKey) second() uuid.UUID { return uuid.UUID(k[16:]) }

func (k pairKey) stored() bson.Binary { return bson.Binary{Data: k[:]} }

func timeOf(micros int64) time.Time { return time.UnixMicro(micros).UTC() }
