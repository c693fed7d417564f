package log_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a store of one partition whose answers can be lost: an insert may
// fail before it is applied, fail after, or fail now and be applied later.
type memory struct {
	mu      sync.Mutex
	commits []events.Commit
	keys    map[string]uint64
	late    []func()
	// lose draws what becomes of an insert; nil loses nothing.
	lose func() fate
}

type fate int

const (
	answered fate = iota
	lostBefore
	lostAfter
	lostAndLate
)

var errLost = errors.New("the answer was lost")

func (m *memory) Name() string    { return "test" }
func (m *memory) Partitions() int { return 1 }

func (m *memory) Insert(_ context.Context, c events.Commit, keys []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := answered
	if m.lose != nil {
		f = m.lose()
	}
	switch f {
	case lostBefore:
		return errLost
	case lostAfter:
		_ = m.apply(c, keys)
		return errLost
	case lostAndLate:
		m.late = append(m.late, func() { _ = m.apply(c, keys) })
		return errLost
	}
	err := m.apply(c, keys)
	if len(m.late) > 0 && len(m.late)%3 == 0 { // late ones come in at odd moments
		for _, arrive := range m.late {
			arrive()
		}
		m.late = nil
	}
	return err
}

func (m *memory) head() uint64 {
	if n := len(m.commits); n > 0 {
		return m.commits[n-1].Last()
	}
	return 0
}

func (m *memory) apply(c events.Commit, keys []string) error {
	if c.First != m.head()+1 {
		return log.ErrTaken
	}
	for _, k := range keys {
		if _, held := m.keys[k]; held {
			return log.ErrTaken
		}
	}
	for _, k := range keys {
		m.keys[k] = c.First
	}
	m.commits = append(m.commits, c)
	return nil
}

func (m *memory) Read(_ context.Context, _ int, after uint64) iter.Seq2[events.Commit, error] {
	m.mu.Lock()
	commits := slices.Clone(m.commits)
	m.mu.Unlock()
	return func(yield func(events.Commit, error) bool) {
		for _, c := range commits {
			if c.Last() > after && !yield(c, nil) {
				return
			}
		}
	}
}

func (m *memory) Head(context.Context, int) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.head(), nil
}

func (m *memory) Held(_ context.Context, _ int, keys []string) (map[string]bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	held := make(map[string]bool)
	for _, k := range keys {
		if _, ok := m.keys[k]; ok {
			held[k] = true
		}
	}
	return held, nil
}

func (m *memory) ByKey(context.Context, int, string, string) ([]events.Commit, error) {
	return nil, errors.New("not needed here")
}

func visit(n int) events.Event {
	return events.Event{
		ID: uuid.New(), Type: events.ProfileVisited, Stream: uuid.UUID{1}, OccurredAt: time.Unix(int64(n), 0), Data: fmt.Appendf(nil, "%d", n),
	}
}

// quickly retries without a pause, so that a test waits for nothing.
func quickly(ctx context.Context, _ int) error { return ctx.Err() }

func TestNothingIsLostOrRepeatedWhenAnswersAreLost(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		store := &memory{keys: map[string]uint64{}, lose: func() fate { return fate(max(0, random.IntN(8)-4)) }}
		var mu sync.Mutex
		acked := map[uuid.UUID]uint64{}
		claimed := map[int]int{}
		var wg sync.WaitGroup
		for w := range 4 {
			l := log.New(store, log.Options{Backoff: quickly})
			wg.Go(func() {
				defer l.Close()
				for n := range 12 {
					e := visit(w*100 + n)
					if n%3 == 0 {
						e.Claims = []string{fmt.Sprint("claim-", n)}
					}
					at, err := l.Append(context.Background(), e)
					if errors.Is(err, log.ErrUnavailable) {
						at, err = l.Append(context.Background(), e)
					}
					mu.Lock()
					switch {
					case err == nil:
						acked[e.ID] = at[0].Sequence
						if n%3 == 0 {
							claimed[n]++
						}
					case !errors.Is(err, log.ErrConflict) || n%3 != 0:
						t.Errorf("seed %d: append: %v", seed, err)
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		seen := map[uuid.UUID]uint64{}
		next := uint64(1)
		for e := range log.Events(context.Background(), store, 0, 0) {
			if e.Sequence != next {
				t.Fatalf("seed %d: sequence %d where %d belongs", seed, e.Sequence, next)
			}
			next++
			if before, twice := seen[e.ID]; twice {
				t.Fatalf("seed %d: event %s is at %d and at %d", seed, e.ID, before, e.Sequence)
			}
			seen[e.ID] = e.Sequence
		}
		for id, at := range acked {
			if seen[id] != at {
				t.Fatalf("seed %d: event %s was acknowledged at %d and is at %d", seed, id, at, seen[id])
			}
		}
		for n, times := range claimed {
			if times != 1 {
				t.Fatalf("seed %d: claim %d was taken %d times", seed, n, times)
			}
		}
		if len(claimed) != 4 {
			t.Fatalf("seed %d: %d of 4 claims were taken", seed, len(claimed))
		}
	}
}

func TestAStoreThatIsGoneMakesAppendsUnavailable(t *testing.T) {
	store := &memory{keys: map[string]uint64{}, lose: func() fate { return lostBefore }}
	tries := 0
	l := log.New(store, log.Options{Backoff: func(context.Context, int) error {
		if tries++; tries > 5 {
			return context.DeadlineExceeded
		}
		return nil
	}})
	defer l.Close()
	e := visit(1)
	if _, err := l.Append(t.Context(), e); !errors.Is(err, log.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	store.mu.Lock()
	store.lose = nil
	store.mu.Unlock()
	if at, err := l.Append(t.Context(), e); err != nil || at[0].Sequence != 1 {
		t.Fatalf("once the store is back: %v %v", at, err)
	}
}

func TestAFullQueueRefusesAtOnce(t *testing.T) {
	gate := make(chan struct{})
	store := &memory{keys: map[string]uint64{}, lose: func() fate { <-gate; return answered }}
	l := log.New(store, log.Options{})
	defer l.Close()
	batch := make([]events.Event, events.MaxCommitEvents)
	for i := range batch {
		batch[i] = visit(i)
	}
	var pending []*log.Pending
	var refused error
	for refused == nil && len(pending) < 100 {
		for i := range batch {
			batch[i].ID = uuid.New()
		}
		var p *log.Pending
		if p, refused = l.Submit(slices.Clone(batch)...); refused == nil {
			pending = append(pending, p)
		}
	}
	if !errors.Is(refused, log.ErrOverloaded) {
		t.Fatalf("after %d appends: %v, want ErrOverloaded", len(pending), refused)
	}
	if most := log.MaxQueuedEvents/events.MaxCommitEvents + 1; len(pending) > most {
		t.Errorf("%d appends were queued, the bound allows %d", len(pending), most)
	}
	close(gate)
	for _, p := range pending {
		if _, err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAClosedLogWritesWhatWaitsAndRefusesTheRest(t *testing.T) {
	store := &memory{keys: map[string]uint64{}}
	l := log.New(store, log.Options{})
	p, err := l.Submit(visit(1))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if at, err := p.Wait(t.Context()); err != nil || at[0].Sequence != 1 {
		t.Fatalf("what was queued: %v %v", at, err)
	}
	if _, err := l.Append(t.Context(), visit(2)); !errors.Is(err, log.ErrClosed) {
		t.Fatalf("after Close: %v, want ErrClosed", err)
	}
}

func TestRecordedTimeDoesNotRunBackwardsWithTheClock(t *testing.T) {
	now := time.Unix(1000, 0).UTC()
	l := log.New(&memory{keys: map[string]uint64{}}, log.Options{Clock: func() time.Time { return now }})
	defer l.Close()
	if _, err := l.Append(t.Context(), visit(1)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(-time.Hour)
	at, err := l.Append(t.Context(), visit(2))
	if err != nil || !at[0].RecordedAt.Equal(time.Unix(1000, 0)) {
		t.Fatalf("recorded at %v (%v) after the clock was set back", at, err)
	}
}

// A, L and B wait for one commit. L wants a claim of A's and is put off; then the
// commit comes to nothing, since another writer was first and has the other claim of
// A's. Now L can be written, and must not stand behind B.
func TestAnAppendThatWasPutOffKeepsItsPlace(t *testing.T) {
	claiming := func(n int, claims ...string) events.Event {
		e := visit(n)
		e.Claims = claims
		return e
	}
	store, begun, gate, inserts := &memory{keys: map[string]uint64{}}, make(chan struct{}), make(chan struct{}), 0
	store.lose = func() fate {
		switch inserts++; inserts {
		case 1:
			close(begun)
			<-gate
		case 2:
			other := []events.Event{claiming(9, "y")}
			c, err := events.Encode("test", 0, store.head()+1, time.Unix(1, 0), uuid.New(), other)
			if err == nil {
				err = store.apply(c, other[0].Keys(nil))
			}
			if err != nil {
				t.Error(err)
			}
		}
		return answered
	}
	l := log.New(store, log.Options{})
	defer l.Close()
	var pending []*log.Pending
	for i, e := range []events.Event{visit(0), claiming(1, "x", "y"), claiming(2, "x"), visit(3)} {
		p, err := l.Submit(e)
		if err != nil {
			t.Fatal(err)
		}
		pending = append(pending, p)
		if i == 0 {
			<-begun // the others wait for the next commit
		}
	}
	close(gate)
	if _, err := pending[1].Wait(t.Context()); !errors.Is(err, log.ErrConflict) {
		t.Fatalf("A: %v, want a conflict", err)
	}
	put, err := pending[2].Wait(t.Context())
	if err != nil {
		t.Fatalf("L: %v", err)
	}
	after, err := pending[3].Wait(t.Context())
	if err != nil || put[0].Sequence > after[0].Sequence {
		t.Fatalf("L is at %d and B, which was submitted after it, at %d (%v)", put[0].Sequence, after[0].Sequence, err)
	}
}

func TestCommittedIsCalledInOrderWithEveryCommit(t *testing.T) {
	var firsts []uint64
	l := log.New(&memory{keys: map[string]uint64{}}, log.Options{Committed: func(c events.Commit) { firsts = append(firsts, c.First) }})
	for n := range 5 {
		if _, err := l.Append(t.Context(), visit(n)); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	if !slices.Equal(firsts, []uint64{1, 2, 3, 4, 5}) {
		t.Fatalf("commits started at %v", firsts)
	}
}

func TestAMalformedEventIsRefusedByName(t *testing.T) {
	l := log.New(&memory{keys: map[string]uint64{}}, log.Options{})
	defer l.Close()
	good := visit(1)
	for name, spoil := range map[string]func(*events.Event){
		"id": func(e *events.Event) { e.ID = uuid.Nil }, "type": func(e *events.Event) { e.Type = "" },
		"stream": func(e *events.Event) { e.Stream = uuid.Nil }, "occurred_at": func(e *events.Event) { e.OccurredAt = time.Time{} },
		"data": func(e *events.Event) { e.Data = make([]byte, events.MaxData+1) }, "claim": func(e *events.Event) { e.Claims = []string{""} },
	} {
		e := good
		spoil(&e)
		if _, err := l.Append(t.Context(), e); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
