// Package notices tells members what happens to them while it happens: who
// visits and likes them, and whom they match.
//
// A Hub follows the activity log from where it stands when the process starts,
// and hands what concerns a member to the streams that they have open. It
// promises that
//   - what a stream brings, resumed at the place that came with its last notice
//     or heartbeat, with any hub that follows the same log, leaves nothing out.
//     What cannot be resumed any more is said to be so: a notice of the kind
//     Reset. A notice may come twice;
//   - who is told of something finds it in their lists: nothing is told before the
//     read models hold it, and nothing of an actor whom they hide at that time.
//     What comes back when they are restored is in the lists and is not told;
//   - a partition's notices come in the order of the log;
//   - memory is bounded: so many streams of a member and in all, and so many
//     notices that wait in a stream. A stream whose reader is slower than that is
//     cut, and resumes.
package notices

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/projections/views"
)

const (
	// MaxStreams is how many streams a hub has open at most; MaxStreamsOfOne how
	// many of them may be one member's.
	MaxStreams      = 20_000
	MaxStreamsOfOne = 8
	// maxWaiting is how many notices may wait in a stream.
	maxWaiting = 256
	// maxRecent is how many visits and likes of a partition a hub remembers at
	// least, at about 90 bytes each: who was away for a moment, as when an instance
	// ends, is resumed from memory.
	maxRecent = 4096
	// maxReread bounds, in events of all partitions together, how far back in the
	// log a stream is resumed; maxResumed how many notices that may bring.
	maxReread  = 1_000_000
	maxResumed = 10_000
	// maxRereads is how many streams read in the log at once.
	maxRereads = 4
	// resumeTimeout bounds how long it may take to resume, and to wait for that.
	resumeTimeout = 10 * time.Second
)

// Errors of Open.
var (
	// ErrFull: there are MaxStreams already, or too many are being resumed.
	ErrFull = errors.New("too many streams are open")
	// ErrTooMany: the member has MaxStreamsOfOne already.
	ErrTooMany = errors.New("the member has too many streams open")
	// ErrUnavailable: the log or the read models do not answer.
	ErrUnavailable = errors.New("streams cannot be opened now")
)

// ErrCut is what a stream ends with whose reader was too slow.
var ErrCut = errors.New("the stream was cut: its reader is too slow")

// Kind is what a notice tells.
type Kind string

// The kinds.
const (
	Visit Kind = "visit" // User visited the member
	Like  Kind = "like"  // User likes the member
	Match Kind = "match" // User and the member like each other
	// Reset says that notices are missing: the lists are to be read anew.
	Reset Kind = "reset"
)

// Notice is one thing to tell.
type Notice struct {
	Kind Kind
	User uuid.UUID
	// At is when it occurred; of a match, since when it stands.
	At time.Time
	// Event is the ID of the event that it comes from.
	Event uuid.UUID
	// After is where to resume after this notice.
	After Place
}

// Place is how far a stream has come in each partition. It is not changed once it
// has been given away.
type Place []uint64

// Config of a Hub. All but Follow and Logger are needed.
type Config struct {
	// Log is the activity log.
	Log log.Reader
	// Follow makes the bus's subscribers; with none, the log is polled.
	Follow bus.Follow
	// Settled returns once the read models hold the partition's events up to
	// sequence.
	Settled func(ctx context.Context, partition int, sequence uint64) error
	// Bonds is views.Store's.
	Bonds  func(ctx context.Context, pairs []views.Pair) ([]views.Bond, error)
	Logger *slog.Logger
	Clock  func() time.Time
}

// fact is a visit or a like, as far as notices care. It is of the partition that
// holds it.
type fact struct {
	id, actor, target uuid.UUID
	sequence          uint64
	at, recorded      int64 // microseconds since 1970
	liked             bool
}

// factOf reads an event. ok is false if there is nothing to tell of it.
func factOf(e *events.Recorded) (f fact, ok bool, err error) {
	liked := e.Type == events.ProfileLiked
	if !liked && e.Type != events.ProfileVisited {
		return f, false, nil
	}
	a, err := events.ParseActivity(e.Data)
	if err != nil || a.Target == e.Stream {
		return f, false, err
	}
	return fact{id: e.ID, actor: e.Stream, target: a.Target, sequence: e.Sequence,
		at: e.OccurredAt.UnixMicro(), recorded: e.RecordedAt.UnixMicro(), liked: liked}, true, nil
}

// concerns says whether there may be something to tell the member of f: the
// target of everything, and of a match its actor, too.
func (f *fact) concerns(member uuid.UUID) bool {
	return f.target == member || f.liked && f.actor == member
}

// pair is the member and the other one.
func (f *fact) pair(member uuid.UUID) views.Pair {
	if f.target == member {
		return views.Pair{User: member, Other: f.actor}
	}
	return views.Pair{User: member, Other: f.target}
}

// tell makes the notices of f for a member, whose bond with the other one is b.
func (f *fact) tell(member uuid.UUID, b views.Bond, after Place) []Notice {
	if b.Hidden {
		return nil
	}
	var out []Notice
	n := Notice{Kind: Visit, User: f.pair(member).Other, At: time.UnixMicro(f.at).UTC(), Event: f.id, After: after}
	if f.target == member {
		if f.liked {
			n.Kind = Like
		}
		out = append(out, n)
	}
	if f.liked && !b.MatchedAt.IsZero() {
		n.Kind, n.At = Match, b.MatchedAt
		out = append(out, n)
	}
	return out
}
