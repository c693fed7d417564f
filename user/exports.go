package user

import (
	"sync"

	"github.com/google/uuid"

	"github.com/meet5/backend/service/problem"
)

// exports are whose data is being exported. Each has one export at a time, so that
// nobody can keep all that there is room for.
type exports struct {
	mu sync.Mutex
	of map[uuid.UUID]bool
}

// begin takes room for a user's export, which end gives back.
func (e *exports) begin(user uuid.UUID) (end func(), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.of[user]:
		p := problem.TooManyRequests(exportRetry)
		p.Detail = "an export of your data is under way; let it end, or close it"
		return nil, p
	case len(e.of) >= maxExports:
		return nil, problem.Unavailable("too many exports are under way; try again in a moment", exportRetry)
	}
	if e.of == nil {
		e.of = make(map[uuid.UUID]bool, maxExports)
	}
	e.of[user] = true
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.of, user)
	}, nil
}
