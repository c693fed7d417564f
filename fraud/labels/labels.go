// Package labels is what is known about users from elsewhere: that somebody was
// banned, say, in data that was imported. Labels stand beside the log, never in
// it, and serve one purpose: to tell how well a rule does in a backtest.
package labels

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Bounds of a label.
const (
	// MaxText is the longest label or source, in bytes.
	MaxText = 128
	// MaxBatch is the largest number of labels of one Put.
	MaxBatch = 10_000
)

// Label says something bad of a user. Its presence is what counts: that nothing
// bad is known of a user is no label.
type Label struct {
	User uuid.UUID `json:"user"`
	// At is since when it is so, in UTC, to the microsecond.
	At time.Time `json:"at"`
	// Label is the word for it, as its source has it.
	Label string `json:"label"`
	// Source is where it is from, such as a file's name.
	Source string `json:"source"`
}

// Store keeps labels. Implementations are safe for concurrent use.
type Store interface {
	// Put adds 1 to MaxBatch labels. One that is there already, in every field, is
	// not added again. If one is malformed, none is added; after another failure
	// some may be there, and putting the same again adds the rest.
	Put(ctx context.Context, labels []Label) error
	// All yields every label, sorted by user, time, source and label. The last
	// pair may carry an error.
	All(ctx context.Context) iter.Seq2[Label, error]
}

// Validate reports the first fault of a label.
func (l Label) Validate() error {
	switch {
	case l.User == uuid.Nil:
		return errors.New("label: user is missing")
	case l.At.IsZero():
		return fmt.Errorf("label of %s: at is missing", l.User)
	case l.Label == "" || len(l.Label) > MaxText:
		return fmt.Errorf("label of %s: label must have 1 to %d bytes, has %d", l.User, MaxText, len(l.Label))
	case len(l.Source) > MaxText:
		return fmt.Errorf("label of %s: source must have at most %d bytes, has %d", l.User, MaxText, len(l.Source))
	case strings.ContainsRune(l.Label, 0) || strings.ContainsRune(l.Source, 0):
		return fmt.Errorf("label of %s: label and source must not hold a zero byte", l.User)
	}
	return nil
}

// ValidateAll reports the first fault of what is to be Put.
func ValidateAll(labels []Label) error {
	if len(labels) == 0 || len(labels) > MaxBatch {
		return fmt.Errorf("put %d labels, want 1 to %d", len(labels), MaxBatch)
	}
	for i := range labels {
		if err := labels[i].Validate(); err != nil {
			return err
		}
	}
	return nil
}

// Bad says whether a value of an imported label column says something bad of a
// user: everything but nothing, zero and no.
func Bad(value string) bool {
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "", "0", "0.0", "false", "no", "n", "none", "null", "ok":
		return false
	}
	return true
}
