package subscription

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Bounds of what is kept in a ledger.
const (
	// MaxParked is how many events of one place may be parked. At one more the
	// partition stands still and says so: an operator has to look.
	MaxParked = 10_000
	// MaxReason is the length, in bytes, that the text of a failure is cut to.
	MaxReason = 1024
)

// ErrNotParked says that no event of that sequence is parked there.
var ErrNotParked = errors.New("no such event is parked")

// Place is where a group stands in a log: one partition of it.
type Place struct {
	Group     string `json:"group"`
	Log       string `json:"log"`
	Partition int    `json:"partition"`
}

func (p Place) String() string { return fmt.Sprintf("%s/%s/%d", p.Group, p.Log, p.Partition) }

// Compare orders places by group, log and partition.
func (p Place) Compare(q Place) int {
	return cmp.Or(cmp.Compare(p.Group, q.Group), cmp.Compare(p.Log, q.Log), cmp.Compare(p.Partition, q.Partition))
}

// Checkpoint is how far a group has come, and how it was then. Times are kept to
// the microsecond.
type Checkpoint struct {
	Place
	// Sequence is the last event worked through, 0 at first. Everything up to it
	// has been handled or is parked.
	Sequence uint64 `json:"sequence"`
	// At is when the group last looked at the place or worked on it, by the clock
	// of the instance that did.
	At time.Time `json:"at"`
	// Rate is how many events a second were worked through of late.
	Rate float64 `json:"rate"`
	// Failure is what fails at present; empty if nothing does.
	Failure string `json:"failure,omitempty"`
}

// Order is what an operator wants done with a parked event.
type Order string

// The orders.
const (
	// Retry hands it over again, and those that wait behind it if that goes well.
	Retry Order = "retry"
	// Drop gives it up: it will never be handled. Those behind it go on.
	Drop Order = "drop"
)

// Parked is an event that was put aside: a reference, not a copy.
type Parked struct {
	Place
	Sequence uint64    `json:"sequence"`
	Event    uuid.UUID `json:"event"`
	Type     string    `json:"type"`
	// Key is the event's stream. While an event of a key is parked, later ones of
	// that key are parked behind it.
	Key uuid.UUID `json:"key"`
	// Reason is why handling it failed; empty if it waits behind another one.
	Reason string `json:"reason,omitempty"`
	// Attempts is how often it was tried since it was parked.
	Attempts int       `json:"attempts"`
	ParkedAt time.Time `json:"parked_at"`
	// Order is what an operator has asked for and nobody has done yet.
	Order Order `json:"order,omitempty"`
}

// Compare orders parked events by place and sequence.
func (p Parked) Compare(q Parked) int {
	return cmp.Or(p.Place.Compare(q.Place), cmp.Compare(p.Sequence, q.Sequence))
}

// ID names a parked event to operators: group, log, partition and sequence, with
// dots between them, as in projections.activity.3.1234.
func (p Parked) ID() string {
	return fmt.Sprintf("%s.%s.%d.%d", p.Group, p.Log, p.Partition, p.Sequence)
}

// ParseID reads what ID makes: the place and the sequence of a parked event.
func ParseID(id string) (at Place, sequence uint64, err error) {
	parts := strings.Split(id, ".")
	if len(parts) == 4 {
		at.Group, at.Log = parts[0], parts[1]
		var partitionErr, sequenceErr error
		at.Partition, partitionErr = strconv.Atoi(parts[2])
		sequence, sequenceErr = strconv.ParseUint(parts[3], 10, 64)
		if partitionErr == nil && sequenceErr == nil {
			return at, sequence, nil
		}
	}
	return Place{}, 0, fmt.Errorf("%q is not the ID of a parked event, such as projections.activity.3.1234", id)
}

// Checkpoints keeps how far groups have come.
type Checkpoints interface {
	// Load returns the checkpoint of a place; its zero Sequence at first.
	Load(ctx context.Context, at Place) (Checkpoint, error)
	// Save replaces the checkpoint of its place. It never moves Sequence back:
	// one that is further on stays.
	Save(ctx context.Context, c Checkpoint) error
}

// Ledger keeps what a group has to remember: how far it has come, and what is
// parked. It is safe for concurrent use, durable when acknowledged, and shared by
// all instances of the group. mongoledger and boltledger are two; ledgertest
// checks both.
type Ledger interface {
	Checkpoints
	// List returns every checkpoint, sorted by group, log and partition.
	List(ctx context.Context) ([]Checkpoint, error)

	// Park adds events, or replaces those that are there, but for their time of
	// parking and an order to drop them, which stay.
	Park(ctx context.Context, list ...Parked) error
	// Parked returns what is parked at a place, sorted by sequence, at most
	// MaxParked. The zero Place is all places, sorted by place first.
	Parked(ctx context.Context, at Place) ([]Parked, error)
	// Unpark removes an event; to remove it again is no error.
	Unpark(ctx context.Context, at Place, sequence uint64) error
	// Order notes what an operator wants done with a parked event. The group's
	// instances do it within about a second. ErrNotParked if it is not there.
	Order(ctx context.Context, at Place, sequence uint64, order Order) error
}
