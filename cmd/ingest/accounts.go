package ingest

import (
	"bytes"
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"golang.org/x/text/unicode/norm"

	"github.com/meet5/backend/user"
	"github.com/meet5/backend/user/account"
)

// Account is a member of a source.
type Account struct {
	ID       uuid.UUID
	Handle   string // made from the ID if empty
	Name     string
	JoinedAt time.Time
}

// Accounts makes those of the accounts that are not there yet.
func Accounts(ctx context.Context, users *user.Service, accounts []Account) error {
	imported := make([]user.Imported, len(accounts))
	for i, a := range accounts {
		handle := a.Handle
		if handle == "" {
			handle = "m-" + hex.EncodeToString(a.ID[:12])
		}
		imported[i] = user.Imported{ID: a.ID, Handle: handle, DisplayName: displayName(a.Name, handle), JoinedAt: a.JoinedAt}
	}
	slices.SortFunc(imported, func(a, b user.Imported) int {
		if c := a.JoinedAt.Compare(b.JoinedAt); c != 0 {
			return c
		}
		return bytes.Compare(a.ID[:], b.ID[:])
	})
	return users.Import(ctx, imported)
}

// displayName makes of what a source calls somebody a name that an account can
// have: a single line of at most account.MaxDisplayName characters that can be
// seen; otherwise if nothing is left.
func displayName(name, otherwise string) string {
	name = strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return ' '
		}
		return r
	}, norm.NFC.String(name))
	characters := []rune(strings.TrimSpace(name))
	name = strings.TrimSpace(string(characters[:min(len(characters), account.MaxDisplayName)]))
	if name == "" {
		return otherwise
	}
	return name
}
