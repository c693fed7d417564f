package gateway

import (
	"sync/atomic"
	"time"

	"github.com/meet5/backend/service/problem"
)

const (
	// maxInFlight is how many requests one gateway has under way, streams apart: as
	// many as all four services may have, be they elsewhere or in this process.
	maxInFlight = 4096
	// shedRetry is what a client is told that was refused for others.
	shedRetry = 2 * time.Second
)

// shedAt is how full the gateway may be, in eighths, for requests of a class to be
// taken on. What can wait is refused first; sign-in, which all else needs, last.
var shedAt = [classes]int64{batch: 4, moderation: 4, read: 7, write: 7, auth: 8}

// load is what the gateway has under way.
type load struct {
	most     int64
	inFlight atomic.Int64
	shed     [classes]atomic.Uint64
}

// refuses says whether there is no room for a request of a class.
func (l *load) refuses(c class) error {
	if c == free || l.inFlight.Load() < l.most*shedAt[c]/8 {
		return nil
	}
	l.shed[c].Add(1)
	return problem.Unavailable("too much is under way; what is less urgent has to wait", shedRetry)
}

// enter takes room for a request, unless there is none; leave gives it back. A
// stream takes none, since it may last for hours.
func (l *load) enter(rt *route) error {
	if err := l.refuses(rt.class); err != nil {
		return err
	}
	if !rt.stream {
		l.inFlight.Add(1)
	}
	return nil
}

func (l *load) leave(rt *route) {
	if !rt.stream {
		l.inFlight.Add(-1)
	}
}
