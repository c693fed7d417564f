package backtest

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// Against is what precision and recall are measured against.
type Against string

// What there is.
const (
	// Decisions are those of moderators (see Verdict). A user without one is
	// unknown and counts neither way.
	Decisions Against = "decisions"
	// Imported are labels from elsewhere. A user without one counts as good.
	Imported Against = "imported"
	// Both goes by a moderator's decision where there is one, and by the labels
	// for all others. If there are no labels at all it is the same as Decisions,
	// and if there are but no decision is, as Imported.
	Both Against = "both"
	// None measures nothing.
	None Against = "none"
)

// Againsts lists all of them.
func Againsts() []Against { return []Against{Decisions, Imported, Both, None} }

// Verdict is what is known of a user.
type Verdict uint8

// The verdicts.
const (
	Unknown Verdict = iota
	Good
	Bad
)

// knowledge is what is known of users.
type knowledge struct {
	against  Against
	decided  map[uuid.UUID]Verdict
	labelled map[uuid.UUID]struct{}
}

// of is what is known of a user.
func (k *knowledge) of(user uuid.UUID) Verdict {
	if k.against != Imported {
		if v := k.decided[user]; v != Unknown || k.against == Decisions {
			return v
		}
	}
	if _, labelled := k.labelled[user]; labelled {
		return Bad
	}
	return Good
}

// readKnowledge reads what there is to measure against; nil if nothing is measured.
func (b *backtest) readKnowledge(ctx context.Context) (*knowledge, error) {
	k := &knowledge{against: b.Against, decided: b.Record.Decided}
	switch b.Against {
	case None:
		return nil, nil
	case Decisions:
		return k, nil
	case "", Both, Imported:
	default:
		return nil, fmt.Errorf("precision and recall cannot be measured against %q", b.Against)
	}
	if b.Labels != nil {
		for l, err := range b.Labels {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return nil, fmt.Errorf("read labels: %w", err)
			}
			if k.labelled == nil {
				k.labelled = make(map[uuid.UUID]struct{})
			}
			k.labelled[l.User] = struct{}{}
		}
	}
	if b.Against == Imported {
		return k, nil
	}
	switch k.against = Both; {
	case len(k.labelled) == 0:
		k.against = Decisions
	case len(k.decided) == 0:
		k.against = Imported
	}
	return k, nil
}
