package fraud

import (
	"bytes"
	"cmp"
	"container/heap"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/rule"
)

const (
	// MaxHits is how many hits of a rule are remembered, the latest by rule time.
	MaxHits = 1000
	// MaxHitEvidence is how many positions of a remembered hit's evidence are kept,
	// the latest. A flag has all that it shows.
	MaxHitEvidence = 32
)

// hit is a hit as it is remembered.
type hit struct {
	user      uuid.UUID
	at        time.Time
	position  events.Position
	observed  int
	threshold int
	rests     int // on so many events
	evidence  []events.Position
}

func remembered(h engine.Hit) hit {
	latest := h.Evidence[max(0, len(h.Evidence)-MaxHitEvidence):]
	return hit{
		user: h.User, at: h.At, position: h.Position, observed: h.Observed, threshold: h.Rule.Threshold,
		rests: len(h.Evidence), evidence: slices.Clone(latest),
	}
}

// before orders hits by time, and hits of one time so that everybody does alike.
func (h hit) before(other hit) int {
	return cmp.Or(
		h.at.Compare(other.at), cmp.Compare(h.position.Partition, other.position.Partition),
		cmp.Compare(h.position.Sequence, other.position.Sequence), bytes.Compare(h.user[:], other.user[:]),
	)
}

// latest is the latest hits, as a heap whose first is the earliest of them. Which these
// are does not depend on the order in which hits come.
type latest []hit

func (l latest) Len() int           { return len(l) }
func (l latest) Less(i, j int) bool { return l[i].before(l[j]) < 0 }
func (l latest) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }

// Push implements heap.Interface.
func (l *latest) Push(x any) { *l = append(*l, x.(hit)) }

// Pop implements heap.Interface.
func (l *latest) Pop() any {
	last := len(*l) - 1
	h := (*l)[last]
	*l = (*l)[:last]
	return h
}

func (l *latest) add(h hit) {
	switch {
	case len(*l) < MaxHits:
		heap.Push(l, h)
	case (*l)[0].before(h) < 0:
		(*l)[0] = h
		heap.Fix(l, 0)
	}
}

// count is what a rule has come to, somewhere.
type count struct {
	evaluations, hits uint64
	latest            latest
}

// tally is what a version of a rule has come to in all of the activity log worked
// through so far. It is safe for concurrent use.
type tally struct {
	rule    rule.Rule
	version string
	// warmed counts the partitions whose history it holds.
	warmed      atomic.Int64
	evaluations atomic.Uint64
	hits        atomic.Uint64
	// cost is what an event takes, in nanoseconds; 0 while it is not measured.
	cost atomic.Int64

	mu     sync.Mutex
	latest latest
}

func newTally(p planned) *tally { return &tally{rule: p.Rule, version: p.version} }

func (t *tally) hit(h engine.Hit) {
	t.hits.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.latest.add(remembered(h))
}

// add takes in what a partition's history has come to.
func (t *tally) add(c *count) {
	t.evaluations.Add(c.evaluations)
	t.hits.Add(c.hits)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range c.latest {
		t.latest.add(h)
	}
	t.warmed.Add(1)
}

// recent returns the hits that are remembered, the latest first.
func (t *tally) recent() []hit {
	t.mu.Lock()
	out := slices.Clone(t.latest)
	t.mu.Unlock()
	slices.SortFunc(out, func(a, b hit) int { return b.before(a) })
	return out
}

// kindCounts counts activities by their kind.
type kindCounts struct{ visits, likes, unlikes uint64 }

func (n *kindCounts) add(eventType string) {
	switch eventType {
	case events.ProfileVisited:
		n.visits++
	case events.ProfileLiked:
		n.likes++
	case events.LikeWithdrawn:
		n.unlikes++
	}
}

// of is how many were of the kinds.
func (n *kindCounts) of(kinds []rule.Kind) (sum uint64) {
	for _, k := range kinds {
		switch k {
		case rule.Visit:
			sum += n.visits
		case rule.Like:
			sum += n.likes
		case rule.Unlike:
			sum += n.unlikes
		}
	}
	return sum
}
