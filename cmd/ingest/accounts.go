package ingest

import (
	"bytes"
	"context"
	"encoding/hex"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/user"
)

// Account is a member of a source.
type Account struct {
	ID       uuid.UUID
	Handle   string // made from the ID if empty
	Name     string
	JoinedAt time.Time
}

// maxName is how many characters of a source's name become the display name.
const maxName = 80

// Accounts makes those of the accounts that are not there yet.
func Accounts(ctx context.Context, users *user.Service, accounts []Account) error {
	imported := make([]user.Imported, len(accounts))
	for i, a := range accounts {
		handle := a.Handle
		if handle == "" {
			handle = "m-" + hex.EncodeToString(a.ID[:12])
		}
		name := []rune(a.Name)
		imported[i] = user.Imported{ID: a.ID, Handle: handle, DisplayName: string(name[:min(len(name), maxName)]), JoinedAt: a.JoinedAt}
	}
	slices.SortFunc(imported, func(a, b user.Imported) int {
		if c := a.JoinedAt.Compare(b.JoinedAt); c != 0 {
			return c
		}
		return bytes.Compare(a.ID[:], b.ID[:])
	})
	return users.Import(ctx, imported)
}
