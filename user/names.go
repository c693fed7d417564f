package user

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/user/account"
)

const (
	// HandleHold is how long a handle stays held after its account was erased, so
	// that nobody takes over what others remember of it. E-mails are free at once:
	// that one is held would tell that somebody had an account.
	HandleHold = 90 * 24 * time.Hour
	// maxHolders bounds how often a name can be taken anew.
	maxHolders = 100
)

// Kinds of names, which the claims in the log begin with. They never change. The
// fields that hold them are called the same.
const (
	handleKind = "handle"
	emailKind  = "email"
)

// name is something that one account at a time has. The log keeps a claim for good,
// so each holder takes another one: the first the name's digest, the n-th one that
// nobody can tell to be of the same name. It is there to be taken only once the
// holder before was erased, which cannot be undone, so that the log still lets
// exactly one have it.
type name struct {
	kind   string
	folded string
}

func nameOfHandle(handle string) (name, bool) {
	folded, ok := account.FoldHandle(handle)
	return name{handleKind, folded}, ok
}

func nameOfEmail(email string) (name, bool) {
	folded, ok := account.FoldEmail(email)
	return name{emailKind, folded}, ok
}

// nameOfLogin is a handle or an e-mail; false if it is neither.
func nameOfLogin(login string) (name, bool) {
	if strings.Contains(login, "@") {
		return nameOfEmail(login)
	}
	return nameOfHandle(login)
}

// claim is what the n-th holder of a name holds in the log, n from 1 on: a digest
// that says nothing without the deployment's secret.
func (r *keyring) claim(n name, holder int) string {
	if holder == 1 {
		return n.kind + ":" + r.digest(n.folded)
	}
	return n.kind + ":" + r.digest(strconv.Itoa(holder)+"\x00"+n.folded)
}

// holder returns the account that has a name, which is not erased; log.ErrNotFound
// if none has. Then free is the claim that the next may take, empty if it is not
// time yet.
func (s *Service) holder(ctx context.Context, ring *keyring, n name) (a account.Account, free string, err error) {
	for i := 1; i <= maxHolders; i++ {
		claim := ring.claim(n, i)
		taken, err := log.Claimant(ctx, s.log, 0, claim)
		if errors.Is(err, log.ErrNotFound) {
			if i > 1 && n.kind == handleKind && s.now().Before(a.ErasedAt.Add(HandleHold)) {
				claim = ""
			}
			return account.Account{}, claim, err
		}
		if err != nil {
			return account.Account{}, "", unreadable(err)
		}
		// Claims are taken on registration alone, so that the holder is the stream of
		// the event that took it.
		if a, err = s.fold(ctx, taken.Stream); err != nil || !a.Erased {
			return a, "", err
		}
	}
	return account.Account{}, "", log.ErrNotFound
}

// freeClaim is the claim that a newcomer may take; empty if the name is held.
func (s *Service) freeClaim(ctx context.Context, ring *keyring, n name) (string, error) {
	_, free, err := s.holder(ctx, ring, n)
	if errors.Is(err, log.ErrNotFound) {
		return free, nil
	}
	return "", err
}
