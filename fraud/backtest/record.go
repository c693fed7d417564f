package backtest

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/fraud/register"
	"github.com/meet5/backend/fraud/rule"
)

// Record is what the fraud log has to compare with.
type Record struct {
	// Flagged are, by rule, the users with a flag on record (see
	// flag.Board.Standing); if nil, nothing is compared.
	Flagged map[string][]uuid.UUID
	// Running are the versions that run, by rule: those in mode live or shadow.
	Running map[string]rule.Rule
	// Decided is what moderators have decided of users: Bad if a flag of theirs,
	// of whichever rule, was confirmed or upheld, else Good if one was dismissed or
	// overturned. A confirmation by the rule itself is no decision.
	Decided map[uuid.UUID]Verdict
}

// ReadRecord folds the fraud log as it stands. The flags on record are those that
// were raised within the time, since included.
func ReadRecord(ctx context.Context, fraud log.Reader, since, until time.Time) (Record, error) {
	r := reading{board: flag.NewBoard(), rules: register.New(), marked: make(map[uuid.UUID]struct{})}
	for p := range fraud.Partitions() {
		for e, err := range log.Events(ctx, fraud, p, 0) {
			if err == nil {
				err = r.apply(e)
			}
			if err != nil {
				return Record{}, fmt.Errorf("read what is on record: %w", err)
			}
		}
	}
	return r.record(since, until), nil
}

// reading is a record that is being folded.
type reading struct {
	board  *flag.Board
	rules  *register.Register
	marked map[uuid.UUID]struct{} // flags whose latest confirmation is their rule's own
}

func (r *reading) apply(e events.Recorded) error {
	if e.Type == events.FlagConfirmed {
		if e.ID == flag.MarkID(e.Stream) {
			r.marked[e.Stream] = struct{}{}
		} else {
			delete(r.marked, e.Stream)
		}
	}
	r.rules.Apply(e)
	return r.board.Apply(e)
}

func (r *reading) record(since, until time.Time) Record {
	out := Record{Flagged: r.board.Standing(since, until), Running: make(map[string]rule.Rule), Decided: make(map[uuid.UUID]Verdict)}
	known, _ := r.rules.All()
	for _, k := range known {
		if k.Runs() {
			out.Running[k.ID] = k.Spec
		}
	}
	flags, _ := r.board.List(flag.Query{Limit: math.MaxInt})
	for _, f := range flags {
		if v := r.verdict(f); v != Unknown {
			out.Decided[f.User] = max(out.Decided[f.User], v)
		}
	}
	return out
}

// verdict is what a flag says of its user.
func (r *reading) verdict(f flag.Flag) Verdict {
	switch f.State {
	case flag.Confirmed:
		if _, byRule := r.marked[f.ID]; byRule {
			return Unknown
		}
		return Bad
	case flag.Upheld:
		return Bad
	case flag.Dismissed, flag.Overturned:
		return Good
	}
	return Unknown
}
