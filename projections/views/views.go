// Package views says what the read models of the activity log are: who visited
// and liked whom, who matched, and the numbers of it.
//
// They are a pure fold of the log: what they hold follows from the events alone,
// never from a clock, from the order in which partitions are read, or from how
// often an event is delivered. An actor's events share a partition and come in
// order, so everything below that hangs on one actor is exact at every moment;
// what hangs on two, a match, is exact once both partitions are worked through.
//
// The rules, for an event of actor A and target T:
//   - profile_visited: the pair A→T counts one visit more; its first and last
//     time are the least and the greatest OccurredAt of the pair.
//   - profile_liked: A likes T since OccurredAt. One who likes already goes on
//     liking since the earlier event, whatever the later one's time.
//   - like_withdrawn: A does not like T. A later like sets a new time.
//   - A and T match while each likes the other, since the later of the two times.
//   - actor_hidden: until actor_restored, what A did, before and after, is left
//     out of what everybody else sees: of their visitors, likes received, matches
//     and numbers. A's own lists and numbers stay as they are; what another hidden
//     actor did is left out of them, too.
//   - an event whose target is its actor, or whose type is none of these, changes
//     nothing.
//
// Lists run from the newest to the oldest: by last visit, time of like or time
// of match; where times are equal, by the other user's ID, bytewise, the greatest
// first. So the order is total and a Mark says where a page ends. Times are exact
// to the microsecond.
package views

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// ErrUnavailable says that the store did not answer. Nothing is known; asking
// again later may help.
var ErrUnavailable = errors.New("read models unavailable")

// Visit is what is known of one user's visits to another.
type Visit struct {
	// User is the other one: the visitor in visitors, the visited in visits.
	User uuid.UUID
	// Count is at least 1.
	Count int64
	// FirstAt and LastAt are when the first and the last of them occurred, UTC.
	FirstAt, LastAt time.Time
}

// Like is a like that stands, or a match.
type Like struct {
	// User is the other one.
	User uuid.UUID
	// At is since when, UTC.
	At time.Time
}

// Mark is a place in a list: the time and the user of the item there.
type Mark struct {
	At   time.Time
	User uuid.UUID
}

// Mark is the item's own place.
func (v Visit) Mark() Mark { return Mark{At: v.LastAt, User: v.User} }

// Mark is the item's own place.
func (l Like) Mark() Mark { return Mark{At: l.At, User: l.User} }

// Page asks for a part of a list.
type Page struct {
	// Limit is the most items to return, at least 1.
	Limit int
	// After leaves out everything up to and with that place; the zero Mark leaves
	// out nothing.
	After Mark
}

// Pair is a user and another one.
type Pair struct{ User, Other uuid.UUID }

// Bond is how two users stand to each other.
type Bond struct {
	// Hidden says that the other one is: the user is not to hear of them.
	Hidden bool
	// MatchedAt is since when the two match, hidden or not; zero if they do not.
	MatchedAt time.Time
}

// Stats are the numbers of one user.
type Stats struct {
	VisitsReceived int64 // visits of visitors that are not hidden
	UniqueVisitors int64 // those visitors
	LikesReceived  int64 // likes of users that are not hidden
	LikesGiven     int64 // own likes, all of them
	Matches        int64 // matches with users that are not hidden
}

// Store keeps the read models. It is safe for concurrent use. memstore and
// mongostore are the two; storetest checks both.
type Store interface {
	// Apply folds a batch in. Everything before it in its partition must have
	// been applied by a call that succeeded, be it of another process, or have been
	// skipped; what comes Late needs that only of what its actors did. A batch, or
	// parts of it cut in other ways, may be applied again and by several callers
	// at once: each event takes effect once, whether it comes in turn or late.
	// After an error some of it may have taken effect; applying it again mends
	// that.
	Apply(ctx context.Context, b Batch) error

	// Visitors are those who visited the user, Visits those whom the user visited.
	Visitors(ctx context.Context, user uuid.UUID, p Page) ([]Visit, error)
	Visits(ctx context.Context, user uuid.UUID, p Page) ([]Visit, error)
	// LikesReceived are those who like the user, LikesGiven those whom the user
	// likes, Matches those for whom both is true.
	LikesReceived(ctx context.Context, user uuid.UUID, p Page) ([]Like, error)
	LikesGiven(ctx context.Context, user uuid.UUID, p Page) ([]Like, error)
	Matches(ctx context.Context, user uuid.UUID, p Page) ([]Like, error)
	// Bonds says of each pair how the two stand to each other, in the order of the
	// pairs. It is exact once the events of both are applied.
	Bonds(ctx context.Context, pairs []Pair) ([]Bond, error)
	// Stats are the user's numbers; all zero for one of whom nothing is known.
	Stats(ctx context.Context, user uuid.UUID) (Stats, error)
}

// IsZero says whether m is no place at all.
func (m Mark) IsZero() bool { return m == Mark{} }
