package ingest

import (
	"context"

	"github.com/meet5/backend/cmd/simulation"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/user"
)

// World takes a simulation's members and acts in. It calls progress with each act
// that it has handed on.
func World(ctx context.Context, users *user.Service, activities *log.Log, userLog log.Reader, w *simulation.World, progress func()) (Counts, error) {
	accounts := make([]Account, len(w.Members))
	for i, m := range w.Members {
		accounts[i] = Account{ID: m.ID, Handle: m.Handle, Name: m.DisplayName, JoinedAt: m.JoinedAt}
	}
	if err := Accounts(ctx, users, accounts); err != nil {
		return Counts{}, err
	}
	writer, err := NewWriter(ctx, activities, userLog)
	if err != nil {
		return Counts{}, err
	}
	for _, a := range w.Acts {
		if err := writer.Add(ctx, Act{ID: a.ID, Kind: a.Kind, Actor: a.Actor.ID, Target: a.Target.ID, At: a.At, JoinedAt: a.Actor.JoinedAt}); err != nil {
			return Counts{}, err
		}
		progress()
	}
	return writer.Flush(ctx)
}
