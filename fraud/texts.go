package fraud

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/vault"
)

// errErased says that whom something is to be written about is erased.
var errErased = problem.Conflict("the user has erased their account; nothing can be written about them any more")

// texts seals what people write about flagged users, with a key of the user's that is
// destroyed when they are erased, and opens it again.
type texts struct {
	vault vault.Vault
	users log.Reader
}

// seal seals what is written about a user in a stream; an empty text needs none. It
// fails with errErased as soon as the erasure is in the user log.
func (t *texts) seal(ctx context.Context, user, stream uuid.UUID, text string) (flag.Text, error) {
	if text == "" {
		return flag.Text{}, nil
	}
	account, err := log.ReadStream(ctx, t.users, user)
	if err != nil {
		return flag.Text{}, unavailable(err)
	}
	if slices.ContainsFunc(account, func(e events.Recorded) bool { return e.Type == events.UserErased }) {
		return flag.Text{}, errErased
	}
	keys, err := t.keep(ctx, user)
	if err != nil {
		return flag.Text{}, err
	}
	key, ok := keys[user]
	if !ok {
		return flag.Text{}, errErased
	}
	sealed, err := sealWith(user, key, stream, text)
	return flag.Text{Sealed: sealed}, err
}

// keep returns the keys of users, new ones where there are none, save those of the
// erased.
func (t *texts) keep(ctx context.Context, users ...uuid.UUID) (map[uuid.UUID]vault.Key, error) {
	if len(users) == 0 {
		return nil, nil
	}
	keys := make(map[uuid.UUID]vault.Key, len(users))
	for _, u := range users {
		keys[u] = newKey()
	}
	keys, err := t.vault.KeepKeys(ctx, keys)
	return keys, unreachable(err)
}

func newKey() (key vault.Key) {
	_, _ = rand.Read(key[:]) // it never fails
	return key
}

func sealWith(id uuid.UUID, key vault.Key, stream uuid.UUID, text string) (*events.SealedText, error) {
	b, err := key.Seal(rand.Reader, []byte(text), boundTo(id, stream))
	if err != nil {
		return nil, fmt.Errorf("a text of %s: %w", stream, err)
	}
	return &events.SealedText{Key: id, Bytes: b}, nil
}

func boundTo(key, stream uuid.UUID) []byte { return append(key[:], stream[:]...) }

// note is what a bulk operation says of all of its flags: sealed for each of them with
// the key of its user, and for the operation with one that all of them share.
type note struct {
	text   string
	stream uuid.UUID // the operation's
	keys   map[uuid.UUID]vault.Key
	erased map[uuid.UUID]bool
	whole  *events.SealedText
}

// dryNote is a note that is not to be written.
func (t *texts) dryNote(ctx context.Context, users []uuid.UUID, text string) (n note, err error) {
	if n.text = text; text != "" {
		n.erased, err = t.vault.Erased(ctx, users...)
	}
	return n, unreachable(err)
}

// note makes the note of the operation with that stream.
func (t *texts) note(ctx context.Context, stream uuid.UUID, users []uuid.UUID, text string) (note, error) {
	n := note{text: text, stream: stream, erased: make(map[uuid.UUID]bool)}
	if text == "" {
		return n, nil
	}
	var err error
	if n.keys, err = t.keep(ctx, users...); err != nil {
		return n, err
	}
	for _, u := range users {
		if _, ok := n.keys[u]; !ok {
			n.erased[u] = true
		}
	}
	id, key := uuid.New(), newKey()
	if err := t.vault.KeepShared(ctx, id, key, slices.Collect(maps.Keys(n.keys))); err != nil {
		return n, unreachable(err)
	}
	n.whole, err = sealWith(id, key, stream, text)
	return n, err
}

// lacks says that it was made without knowing of a user.
func (n *note) lacks(user uuid.UUID) bool {
	_, known := n.keys[user]
	return n.keys != nil && !known && !n.erased[user]
}

// of is what it says of one of the flags; nothing if its user is erased.
func (n *note) of(f flag.Flag) (flag.Text, error) {
	key, ok := n.keys[f.User]
	if !ok {
		return flag.Text{}, nil
	}
	sealed, err := sealWith(f.User, key, f.ID, n.text)
	return flag.Text{Sealed: sealed}, err
}

// opener opens the texts of one stream.
type opener struct {
	stream uuid.UUID
	keys   map[uuid.UUID]vault.Key
	// erased says that somebody whom it is about is erased: what earlier builds wrote
	// in the clear is then not shown.
	erased bool
}

// open returns what a text says, or that it is gone: with whom it was about or, which
// looks the same, with a vault that was lost.
func (o *opener) open(t flag.Text) (text string, erased bool) {
	if t.Sealed == nil {
		if o.erased && t.Plain != "" {
			return "", true
		}
		return t.Plain, false
	}
	key, ok := o.keys[t.Sealed.Key]
	if !ok {
		return "", true
	}
	b, err := key.Unseal(t.Sealed.Bytes, boundTo(t.Sealed.Key, o.stream))
	return string(b), err != nil // of another key: this one was made after a loss
}

// opener returns one for texts of a stream that is about users.
func (t *texts) opener(ctx context.Context, stream uuid.UUID, users []uuid.UUID, list ...flag.Text) (*opener, error) {
	o := &opener{stream: stream}
	var keys []uuid.UUID
	plain := false
	for _, text := range list {
		if text.Sealed != nil {
			keys = append(keys, text.Sealed.Key)
		}
		plain = plain || text.Plain != ""
	}
	var err error
	if o.keys, err = t.find(ctx, keys...); err != nil || !plain {
		return o, err
	}
	erased, err := t.vault.Erased(ctx, users...)
	o.erased = len(erased) > 0
	return o, unreachable(err)
}

// find returns those of the keys that are there.
func (t *texts) find(ctx context.Context, ids ...uuid.UUID) (map[uuid.UUID]vault.Key, error) {
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	all := make(map[uuid.UUID]vault.Key)
	for some := range slices.Chunk(slices.Compact(ids), vault.MaxKeys) {
		keys, err := t.vault.Keys(ctx, some...)
		if err != nil {
			return nil, unreachable(err)
		}
		maps.Copy(all, keys)
	}
	return all, nil
}

// unreachable makes a problem of what kept the vault from answering. Somebody who is
// erased while something is written about them is nobody's fault either.
func unreachable(err error) error {
	switch {
	case errors.Is(err, vault.ErrUnavailable), errors.Is(err, vault.ErrErased), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", problem.Unavailable("what was written about flags cannot be reached right now; read the flag again before you repeat this", retryAfter), err)
	}
	return err
}
