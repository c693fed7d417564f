package gateway

import (
	"net/http"
	"sync/atomic"

	"github.com/failsafe-go/failsafe-go/bulkhead"

	"github.com/meet5/backend/service/problem"
)

// local is a service in this process, with as much room as one elsewhere: if it
// hangs, what comes on top is refused at once, and the others have the rest of the
// gateway. It needs no breaker, since nothing has to find out whether it is there,
// and nothing is sent again.
type local struct {
	to      http.Handler
	rooms   [kinds]bulkhead.Bulkhead[any]
	refused atomic.Uint64
}

// inRoom gives a service in this process its room. Others have theirs.
func inRoom(to http.Handler) http.Handler {
	if _, elsewhere := to.(*remote); elsewhere || to == nil {
		return to
	}
	l := &local{to: to}
	for k := range l.rooms {
		l.rooms[k] = newRoom(serviceRoom[k])
	}
	return l
}

func (l *local) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	room := l.rooms[planOf(r).kind]
	if !room.TryAcquirePermit() {
		l.refused.Add(1)
		problem.Write(w, r, problem.Unavailable("a part of the service is busy right now; try again in a moment", upstreamRetry))
		return
	}
	defer room.ReleasePermit()
	l.to.ServeHTTP(w, r)
}
