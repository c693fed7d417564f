// Package account is the domain of the user service: what an account is, how it
// follows from its events, and which handles, e-mails and profiles are sound.
//
// It promises that
//   - an Account is a pure fold of its stream: the same events give the same
//     account, whoever folds them and whenever;
//   - two handles, or two e-mails, that differ only in case or in how their
//     characters are composed fold to one name (FoldHandle, FoldEmail), which is
//     what uniqueness is decided by;
//   - a check reports every fault at once, and each names its field and what it
//     must be;
//   - no clock is read: who asks for an age brings the time.
//
// Personal data arrives sealed. Folding needs no key, opening does, and that is
// not done here.
package account

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// Status is how an account stands.
type Status string

// The states of an account. Erased outweighs fraudulent.
const (
	Active     Status = "active"
	Fraudulent Status = "fraudulent"
	Erased     Status = "erased"
)

// ErrUnknown says that no event of an account was ever written.
var ErrUnknown = errors.New("no such account")

// Account is a user as the events of their stream leave them.
type Account struct {
	ID uuid.UUID
	// Version is that of the last event; the next one takes Version+1.
	Version  uint64
	Roles    []string // sorted; none for a member
	JoinedAt time.Time
	Imported bool
	Erased   bool
	// ErasedAt is zero unless Erased.
	ErasedAt time.Time
	// Sealed is the latest personal data. It stays when the account is erased,
	// but nothing can open it any more.
	Sealed Sealed
	// Marks are the confirmed flags that nothing has cleared, oldest first.
	Marks []Mark

	// decided holds the IDs of the events that marked or cleared, so that working
	// through a decision again is seen. There is one per decision on this user.
	decided []uuid.UUID
}

// Sealed is encrypted personal data, with the event type that it came in, which
// is part of what it was sealed with.
type Sealed struct {
	EventType string
	Bytes     []byte
}

// Mark is a confirmed flag on an account.
type Mark struct {
	Flag string
	Rule string
	At   time.Time
}

// Fold makes the account of a stream's events, in order and from the first on.
// It fails with ErrUnknown if there are none.
func Fold(stream []events.Recorded) (Account, error) {
	if len(stream) == 0 {
		return Account{}, ErrUnknown
	}
	a := Account{ID: stream[0].Stream}
	for _, e := range stream {
		if err := a.Apply(e); err != nil {
			return Account{}, err
		}
	}
	return a, nil
}

// Apply folds in the next event. A type that this build does not know changes
// nothing but the version.
func (a *Account) Apply(e events.Recorded) error {
	if e.Version != a.Version+1 {
		return fmt.Errorf("account %s at version %d: the next event has version %d", a.ID, a.Version, e.Version)
	}
	a.Version = e.Version
	switch e.Type {
	case events.UserRegistered:
		p, err := events.Unmarshal[events.Registration](e)
		if err != nil {
			return err
		}
		a.Sealed = Sealed{EventType: e.Type, Bytes: p.Sealed}
		a.Roles, a.JoinedAt, a.Imported = p.Roles, p.JoinedAt, p.Imported
	case events.UserProfileChanged:
		p, err := events.Unmarshal[events.ProfileChange](e)
		if err != nil {
			return err
		}
		a.Sealed = Sealed{EventType: e.Type, Bytes: p.Sealed}
	case events.UserRolesChanged:
		p, err := events.Unmarshal[events.Roles](e)
		if err != nil {
			return err
		}
		a.Roles = p.Roles
	case events.UserMarkedFraudulent, events.UserCleared:
		return a.applyStanding(e)
	case events.UserErased:
		a.Erased, a.ErasedAt = true, e.OccurredAt
	}
	return nil
}

func (a *Account) applyStanding(e events.Recorded) error {
	p, err := events.Unmarshal[events.Standing](e)
	if err != nil {
		return err
	}
	a.decided = append(a.decided, e.ID)
	a.Marks = slices.DeleteFunc(a.Marks, func(m Mark) bool { return m.Flag == p.Flag })
	if e.Type == events.UserMarkedFraudulent {
		a.Marks = append(a.Marks, Mark{Flag: p.Flag, Rule: p.Rule, At: e.OccurredAt})
	}
	return nil
}

// Status tells how the account stands: fraudulent while any mark is on it.
func (a *Account) Status() Status {
	switch {
	case a.Erased:
		return Erased
	case len(a.Marks) > 0:
		return Fraudulent
	}
	return Active
}

// Decided says whether the event of that ID has marked or cleared the account.
func (a *Account) Decided(event uuid.UUID) bool { return slices.Contains(a.decided, event) }
