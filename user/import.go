package user

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/user/account"
)

// importBatch is how many accounts are imported with one append. A commit is read
// whole to read one account in it, so that larger ones would make every question
// about an imported user slower.
const importBatch = 512

// registrationPurpose derives the ID of an imported account's first event.
const registrationPurpose = "registered"

// Imported is an account that comes from elsewhere. It has no e-mail and no
// password: nobody can sign in to it.
type Imported struct {
	ID          uuid.UUID
	Handle      string
	DisplayName string
	JoinedAt    time.Time
}

// ImportError lists the accounts that were refused. The others were imported.
type ImportError struct{ Refused []Refusal }

// Refusal is why an account was not imported.
type Refusal struct {
	ID     uuid.UUID
	Reason string
}

func (e *ImportError) Error() string {
	first := e.Refused[0]
	return fmt.Sprintf("%d accounts were not imported, the first of them %s: %s", len(e.Refused), first.ID, first.Reason)
}

// Import makes accounts that come from elsewhere, keeping their IDs. Those that
// are there already, erased ones included, stay as they are, so that it may be
// repeated and taken up again. It fails with an *ImportError if it refuses some
// of them: a field does not fit, or the handle is another account's.
func (s *Service) Import(ctx context.Context, accounts []Imported) error {
	ring, err := s.keys.get(ctx)
	if err != nil {
		return fmt.Errorf("import accounts: %w", err)
	}
	known, err := s.registeredUsers(ctx)
	if err != nil {
		return fmt.Errorf("import accounts: %w", err)
	}
	in := importer{Service: s, ring: ring, known: known}
	for _, a := range accounts {
		if err := in.add(ctx, a); err != nil {
			return fmt.Errorf("import accounts: %w", err)
		}
	}
	if err := in.flush(ctx); err != nil {
		return fmt.Errorf("import accounts: %w", err)
	}
	if len(in.refused) > 0 {
		return &ImportError{in.refused}
	}
	return nil
}

// registeredUsers reads who is in the log, whenever they were written.
func (s *Service) registeredUsers(ctx context.Context) (map[uuid.UUID]bool, error) {
	known := make(map[uuid.UUID]bool)
	for e, err := range log.Events(ctx, s.log, 0, 0) {
		if err != nil {
			return nil, unreadable(err)
		}
		if e.Type == events.UserRegistered {
			known[e.Stream] = true
		}
	}
	return known, nil
}

// importer gathers accounts and writes them in batches.
type importer struct {
	*Service
	ring    *keyring
	known   map[uuid.UUID]bool
	batch   []newImport
	refused []Refusal
}

// newImport is an account on its way into the log.
type newImport struct {
	Imported
	personal events.Personal
	claim    string
}

func (in *importer) add(ctx context.Context, a Imported) error {
	if in.known[a.ID] {
		return nil
	}
	n, reason := in.check(a)
	if reason != "" {
		in.refuse(a.ID, reason)
		return nil
	}
	in.known[a.ID] = true
	if in.batch = append(in.batch, n); len(in.batch) < importBatch {
		return nil
	}
	return in.flush(ctx)
}

func (in *importer) check(a Imported) (newImport, string) {
	switch {
	case a.ID == uuid.Nil:
		return newImport{}, "the ID is missing"
	case a.JoinedAt.IsZero():
		return newImport{}, "the time it joined at is missing"
	}
	personal, faults := account.ImportedProfile(a.Handle, a.DisplayName)
	for _, f := range faults {
		return newImport{}, f.Field + " " + f.Message
	}
	if folded, _ := account.FoldHandle(a.Handle); folded == AdminHandle {
		return newImport{}, "the handle " + AdminHandle + " is kept for the first admin"
	}
	handle, _ := nameOfHandle(a.Handle)
	a.JoinedAt = a.JoinedAt.UTC().Truncate(time.Microsecond)
	// A handle that anybody had before is not imported.
	return newImport{a, personal, in.ring.claim(handle, 1)}, ""
}

func (in *importer) refuse(id uuid.UUID, reason string) {
	in.refused = append(in.refused, Refusal{id, reason})
}

// flush writes the batch. Each conflict takes at least one account out of it.
func (in *importer) flush(ctx context.Context) error {
	for len(in.batch) > 0 {
		evs, err := in.events(ctx)
		if err != nil {
			return err
		}
		if len(evs) == 0 {
			break
		}
		_, err = in.log.Append(ctx, evs...)
		if err == nil {
			break
		}
		conflict, ok := errors.AsType[*log.ConflictError](err)
		if !ok {
			return err
		}
		in.drop(conflict)
	}
	in.batch = in.batch[:0]
	return nil
}

// drop takes the account out of the batch that an append has run into: another
// one has its handle, or another import has just made it.
func (in *importer) drop(c *log.ConflictError) {
	kept := in.batch[:0]
	for _, n := range in.batch {
		switch {
		case registrationID(n.ID) != c.Event:
			kept = append(kept, n)
		case c.Claim != "":
			in.refuse(n.ID, "the handle "+n.Handle+" is another account's")
		}
	}
	in.batch = kept
}

func registrationID(user uuid.UUID) uuid.UUID { return events.DeriveID(user, registrationPurpose) }

// events makes the batch's events. Keys come first, as in register; those that
// are there, from an import that did not end, are taken.
func (in *importer) events(ctx context.Context) ([]events.Event, error) {
	fresh := make(map[uuid.UUID]vault.Key, len(in.batch))
	for _, n := range in.batch {
		key, err := in.newKey()
		if err != nil {
			return nil, err
		}
		fresh[n.ID] = key
	}
	keys, err := in.vault.KeepKeys(ctx, fresh)
	if err != nil {
		return nil, err
	}
	evs := make([]events.Event, 0, len(in.batch))
	for _, n := range in.batch {
		key, ok := keys[n.ID]
		if !ok {
			continue // erased since the log was read
		}
		sealed, err := seal(in.rand, key, n.ID, events.UserRegistered, n.personal)
		if err != nil {
			return nil, err
		}
		e, err := in.event(step{
			ID: registrationID(n.ID), Type: events.UserRegistered,
			Payload: events.Registration{Sealed: sealed.Bytes, JoinedAt: n.JoinedAt, Imported: true},
		}, n.ID, 1)
		if err != nil {
			return nil, err
		}
		e.OccurredAt = n.JoinedAt // it happened there and then
		e.Claims = []string{n.claim}
		evs = append(evs, e)
	}
	return evs, nil
}
