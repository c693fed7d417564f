// Package logtest is the conformance suite of the log: what package log promises,
// checked on a store. Every adapter's tests run it.
package logtest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// Partitions is how many partitions the stores under test must have.
const Partitions = 4

// Run checks every promise on stores that open makes: each call returns a store
// of a new, empty log with Partitions partitions.
func Run(t *testing.T, open func(t *testing.T) log.Store) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*testing.T, log.Store)
	}{
		{"an acknowledged append can be read by another log on the store", durable},
		{"sequences are dense under many writers", dense},
		{"a reader never sees a sequence before its predecessor", ordered},
		{"an ID that is appended again keeps its first position", idempotent},
		{"one ID appended by many writers at once is written once", idempotentAtOnce},
		{"an event with keys appended again through a log that has not seen it is no conflict with itself", idempotentUnseen},
		{"a stream version that is not the next one conflicts", versions},
		{"of many writers of one version one wins", versionsAtOnce},
		{"a claim is held once", claims},
		{"of many writers of one claim one wins", claimsAtOnce},
		{"who is told of a conflict finds what it is with", conflictShows},
		{"eight writers on the same partitions lose, repeat and reorder nothing", manyWriters},
		{"a conflict leaves the other appends of its commit alone", conflictAlone},
		{"an append of several events is written whole or not at all", atomic},
		{"a read may start within a commit", readWithin},
		{"the gist of a commit says what it holds", gists},
		{"a stream is read back by its versions", readStream},
		{"what has been read is within the head", headHasAllThatIsRead},
		{"a store refuses a sequence that is taken", fence},
		{"bytes come back as they were written", bytesKept},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)

func writer(t *testing.T, s log.Store) *log.Log {
	l := log.New(s, log.Options{})
	t.Cleanup(l.Close)
	return l
}

func event(stream uuid.UUID, n int) events.Event {
	return events.Event{
		ID: uuid.New(), Type: events.ProfileVisited, Stream: stream,
		OccurredAt: start.Add(time.Duration(n) * time.Second), Data: fmt.Appendf(nil, `{"n":%d}`, n),
	}
}

func must(t *testing.T, l *log.Log, evs ...events.Event) []log.Appended {
	t.Helper()
	at, err := l.Append(t.Context(), evs...)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// all reads a partition and fails unless its sequences are dense from 1 on.
func all(t *testing.T, r log.Reader, partition int) []events.Recorded {
	t.Helper()
	var out []events.Recorded
	for e, err := range log.Events(t.Context(), r, partition, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if want := uint64(len(out) + 1); e.Sequence != want {
			t.Fatalf("partition %d: sequence %d where %d belongs", partition, e.Sequence, want)
		}
		if n := len(out); n > 0 && e.RecordedAt.Before(out[n-1].RecordedAt) {
			t.Fatalf("partition %d: recorded time runs backwards at %d", partition, e.Sequence)
		}
		out = append(out, e)
	}
	head, err := r.Head(t.Context(), partition)
	if err != nil || head != uint64(len(out)) {
		t.Fatalf("partition %d: head %d (%v), read %d events", partition, head, err, len(out))
	}
	return out
}

// together runs n copies of f at once, each with a log of its own on the store.
func together(t *testing.T, s log.Store, n int, f func(i int, l *log.Log) error) (failed []error) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		l := writer(t, s)
		wg.Go(func() {
			<-begin
			if err := f(i, l); err != nil {
				mu.Lock()
				failed = append(failed, err)
				mu.Unlock()
			}
		})
	}
	close(begin)
	wg.Wait()
	return failed
}

func durable(t *testing.T, s log.Store) {
	stream := uuid.New()
	want := event(stream, 1)
	at := must(t, writer(t, s), want)[0]
	got, err := log.Get(t.Context(), writer(t, s), at.Position)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != want.ID || got.Type != want.Type || got.Stream != stream || !got.OccurredAt.Equal(want.OccurredAt) ||
		string(got.Data) != string(want.Data) || !got.RecordedAt.Equal(at.RecordedAt) {
		t.Fatalf("got %+v, want %+v at %+v", got, want, at)
	}
	if _, err := log.Get(t.Context(), s, events.Position{Partition: at.Partition, Sequence: 2}); !errors.Is(err, log.ErrNotFound) {
		t.Fatalf("beyond the head: %v, want ErrNotFound", err)
	}
}

func dense(t *testing.T, s log.Store) {
	const writers, each = 4, 50
	streams := make([]uuid.UUID, 6)
	for i := range streams {
		streams[i] = uuid.New()
	}
	errs := together(t, s, writers, func(w int, l *log.Log) error {
		for n := range each {
			if _, err := l.Append(context.Background(), event(streams[(w+n)%len(streams)], n)); err != nil {
				return err
			}
		}
		return nil
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	total := 0
	for p := range Partitions {
		total += len(all(t, s, p))
	}
	if total != writers*each {
		t.Fatalf("%d events, want %d", total, writers*each)
	}
}

// manyWriters has eight logs append to every partition at once: batches, versions
// and claims that they race for, and each other's events again.
func manyWriters(t *testing.T, s log.Store) {
	const writers, rounds, claimsPerRound = 8, 12, 3
	streams := make([]uuid.UUID, Partitions) // one of each partition
	for i := range streams {
		for streams[i] = uuid.New(); events.PartitionOf(streams[i], Partitions) != i; {
			streams[i] = uuid.New()
		}
	}
	// What a writer appends in a round, made beforehand so that the next writer can
	// append it again.
	var batches [writers][rounds][]events.Event
	for w := range writers {
		for r := range rounds {
			for n := range 1 + (w+r)%5 {
				batches[w][r] = append(batches[w][r], event(streams[(w+r)%Partitions], n))
			}
		}
	}
	var mu sync.Mutex
	positions := map[uuid.UUID]events.Position{}
	won := map[string]int{}
	tell := func(evs []events.Event, at []log.Appended) error {
		mu.Lock()
		defer mu.Unlock()
		for i, e := range evs {
			if before, known := positions[e.ID]; known && before != at[i].Position {
				return fmt.Errorf("event %s was acknowledged at %v and at %v", e.ID, before, at[i].Position)
			}
			positions[e.ID] = at[i].Position
		}
		return nil
	}
	errs := together(t, s, writers, func(w int, l *log.Log) error {
		for r := range rounds {
			for _, evs := range [][]events.Event{batches[w][r], batches[(w+1)%writers][r]} {
				at, err := l.Append(context.Background(), evs...)
				if err == nil {
					err = tell(evs, at)
				}
				if err != nil {
					return err
				}
			}
			raced := versioned(streams[r%Partitions], uint64(r/Partitions+1)) //nolint:gosec // small
			raced.Claims = []string{fmt.Sprintf("round:%d", r%claimsPerRound)}
			at, err := l.Append(context.Background(), raced)
			switch {
			case err == nil:
				mu.Lock()
				won[fmt.Sprintf("%d of %s", raced.Version, raced.Stream)]++
				mu.Unlock()
				err = tell([]events.Event{raced}, at)
			case errors.Is(err, log.ErrConflict):
				err = nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for version, times := range won {
		if times != 1 {
			t.Errorf("version %s was acknowledged %d times", version, times)
		}
	}
	total := 0
	for p := range Partitions {
		held, versions := map[string]bool{}, uint64(0)
		for _, e := range all(t, s, p) {
			total++
			if positions[e.ID] != e.Position {
				t.Errorf("event %s is at %v and was acknowledged at %v", e.ID, e.Position, positions[e.ID])
			}
			for _, c := range e.Claims {
				if held[c] {
					t.Errorf("partition %d: claim %q is held twice", p, c)
				}
				held[c] = true
			}
			if e.Version > 0 {
				if e.Version != versions+1 {
					t.Errorf("partition %d: version %d follows %d", p, e.Version, versions)
				}
				versions = e.Version
			}
		}
	}
	if total != len(positions) {
		t.Errorf("the log holds %d events, %d were acknowledged", total, len(positions))
	}
	// A writer's round may be appended by its neighbour too, but its events stay
	// one piece.
	for w := range writers {
		for r := range rounds {
			first := positions[batches[w][r][0].ID]
			for i, e := range batches[w][r] {
				if at := positions[e.ID]; at.Partition != first.Partition || at.Sequence != first.Sequence+uint64(i) { //nolint:gosec // an index
					t.Errorf("writer %d, round %d: event %d is at %v, the first at %v", w, r, i, at, first)
				}
			}
		}
	}
}

func gists(t *testing.T, s log.Store) {
	g, ok := s.(log.Gister)
	if !ok {
		t.Skip("this store has whole commits only")
	}
	const partition = 2
	var want []log.Gist
	first := uint64(1)
	for n := range 150 { // more than any query brings
		evs := make([]events.Event, 1+n%3)
		gist := log.Gist{First: first, RecordedAt: start.Add(time.Duration(n) * time.Microsecond)}
		for i := range evs {
			evs[i] = event(uuid.New(), n)
			gist.IDs = append(gist.IDs, evs[i].ID)
		}
		c, err := events.Encode(s.Name(), partition, first, gist.RecordedAt, uuid.New(), evs)
		if err == nil {
			insert := g.InsertWithGist
			if n >= 50 && n < 60 { // nobody else wrote for a while
				insert = g.Insert
			}
			err = insert(t.Context(), c, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		want, first = append(want, gist), c.Last()+1
	}
	for _, from := range []int{0, 1, 55, 100, 149, 150} {
		var got []log.Gist
		after := first - 1
		if from < len(want) {
			after = want[from].First - 1
		}
		for gist, err := range g.Gists(t.Context(), partition, after) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, gist)
		}
		if !reflect.DeepEqual(got, slices.Clone(want[from:])) && len(got)+len(want[from:]) > 0 {
			t.Errorf("after %d: %d gists that differ from the %d commits", after, len(got), len(want[from:]))
		}
	}
	for gist, err := range g.Gists(t.Context(), partition+1, 0) {
		t.Errorf("a gist of an empty partition: %+v, %v", gist, err)
	}
}

func ordered(t *testing.T, s log.Store) {
	const total = 200
	stream := uuid.New()
	partition := events.PartitionOf(stream, Partitions)
	ctx, cancel := context.WithCancel(t.Context())
	read := make(chan error, 1)
	go func() {
		var seen uint64
		for seen < total && ctx.Err() == nil {
			for e, err := range log.Events(ctx, s, partition, seen) {
				if err != nil {
					read <- err
					return
				}
				if e.Sequence != seen+1 {
					read <- fmt.Errorf("sequence %d after %d", e.Sequence, seen)
					return
				}
				seen = e.Sequence
			}
		}
		read <- nil
	}()
	errs := together(t, s, 2, func(_ int, l *log.Log) error {
		for n := range total / 2 {
			if _, err := l.Append(context.Background(), event(stream, n)); err != nil {
				return err
			}
		}
		return nil
	})
	if len(errs) > 0 {
		cancel()
		t.Fatal(errs)
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	cancel()
}

func idempotent(t *testing.T, s log.Store) {
	stream := uuid.New()
	first, second := event(stream, 1), event(stream, 2)
	l := writer(t, s)
	at := must(t, l, first, second, first)
	if at[0].Duplicate || at[1].Duplicate || !at[2].Duplicate || at[2].Sequence != at[0].Sequence {
		t.Fatalf("an ID twice in one append: %+v", at)
	}
	for name, l := range map[string]*log.Log{"the same log": l, "another log": writer(t, s)} {
		again := must(t, l, second, event(stream, 3))
		if !again[0].Duplicate || again[0].Position != at[1].Position || again[1].Duplicate {
			t.Errorf("%s: %+v, want the position %+v again and a new one", name, again, at[1].Position)
		}
	}
	if n := len(all(t, s, at[0].Partition)); n != 4 {
		t.Fatalf("%d events, want 4", n)
	}
}

// idempotentUnseen is a client that tries again elsewhere: the other log has read
// the partition before the event was written.
func idempotentUnseen(t *testing.T, s log.Store) {
	u := samePartition(2)
	far := writer(t, s)
	must(t, far, event(u[0], 1))
	e := claiming(u[1], "handle:anna")
	at := must(t, writer(t, s), e)[0]
	if again := must(t, far, e)[0]; !again.Duplicate || again.Position != at.Position {
		t.Fatalf("%+v, want a duplicate of %+v", again, at.Position)
	}
}

func idempotentAtOnce(t *testing.T, s log.Store) {
	e := event(uuid.New(), 1)
	var mu sync.Mutex
	var got []events.Position
	errs := together(t, s, 8, func(_ int, l *log.Log) error {
		at, err := l.Append(context.Background(), e)
		if err == nil {
			mu.Lock()
			got = append(got, at[0].Position)
			mu.Unlock()
		}
		return err
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, p := range got {
		if p != got[0] {
			t.Fatalf("positions differ: %v", got)
		}
	}
	if n := len(all(t, s, got[0].Partition)); n != 1 {
		t.Fatalf("%d events, want 1", n)
	}
}

func versioned(stream uuid.UUID, v uint64) events.Event {
	e := event(stream, int(v)) //nolint:gosec // small
	e.Version = v
	return e
}

func versions(t *testing.T, s log.Store) {
	l, stream := writer(t, s), uuid.New()
	must(t, l, versioned(stream, 1), versioned(stream, 2))
	must(t, l, versioned(stream, 3))
	for _, v := range []uint64{1, 3, 5} {
		_, err := writer(t, s).Append(t.Context(), versioned(stream, v))
		if !errors.Is(err, log.ErrConflict) {
			t.Errorf("version %d of a stream at 3: %v, want a conflict", v, err)
		}
	}
	must(t, l, versioned(stream, 4))
}

func versionsAtOnce(t *testing.T, s log.Store) {
	stream := uuid.New()
	errs := together(t, s, 8, func(_ int, l *log.Log) error {
		_, err := l.Append(context.Background(), versioned(stream, 1))
		return err
	})
	oneWon(t, errs, 8)
	if n := len(all(t, s, events.PartitionOf(stream, Partitions))); n != 1 {
		t.Fatalf("%d events, want 1", n)
	}
}

func oneWon(t *testing.T, errs []error, of int) {
	t.Helper()
	for _, err := range errs {
		if !errors.Is(err, log.ErrConflict) {
			t.Errorf("refused with %v, want a conflict", err)
		}
	}
	if len(errs) != of-1 {
		t.Fatalf("%d of %d refused, want all but one", len(errs), of)
	}
}

// samePartition makes n streams of one partition.
func samePartition(n int) []uuid.UUID {
	var out []uuid.UUID
	for len(out) < n {
		u := uuid.New()
		if len(out) == 0 || events.PartitionOf(u, Partitions) == events.PartitionOf(out[0], Partitions) {
			out = append(out, u)
		}
	}
	return out
}

func claiming(stream uuid.UUID, claims ...string) events.Event {
	e := versioned(stream, 1)
	e.Claims = claims
	return e
}

func claims(t *testing.T, s log.Store) {
	l, u := writer(t, s), samePartition(3)
	holder := claiming(u[0], "handle:anna", "email:\x00\xff")
	at := must(t, l, holder)[0]
	_, err := writer(t, s).Append(t.Context(), claiming(u[1], "handle:bert", "handle:anna"))
	var conflict *log.ConflictError
	if !errors.As(err, &conflict) || conflict.Claim != "handle:anna" {
		t.Fatalf("a held claim: %v, want a conflict that names it", err)
	}
	must(t, l, claiming(u[2], "handle:bert"))
	for _, claim := range holder.Claims {
		e, err := log.Claimant(t.Context(), s, at.Partition, claim)
		if err != nil || e.ID != holder.ID {
			t.Errorf("claim %q is held by %v (%v), want %v", claim, e.ID, err, holder.ID)
		}
	}
	if _, err := log.Claimant(t.Context(), s, at.Partition, "handle:ann"); !errors.Is(err, log.ErrNotFound) {
		t.Errorf("a free claim: %v, want ErrNotFound", err)
	}
}

func claimsAtOnce(t *testing.T, s log.Store) {
	streams := samePartition(8)
	errs := together(t, s, 8, func(i int, l *log.Log) error {
		_, err := l.Append(context.Background(), claiming(streams[i], "handle:anna"))
		return err
	})
	oneWon(t, errs, 8)
}

// conflictShows has many want one claim through one log, where they meet within a
// commit: the claim must be held by the time that anybody is refused.
func conflictShows(t *testing.T, s log.Store) {
	l := writer(t, s)
	for round := range 20 {
		claim := fmt.Sprintf("handle:%d", round)
		streams := samePartition(6)
		partition := events.PartitionOf(streams[0], Partitions)
		var wg sync.WaitGroup
		for _, stream := range streams {
			wg.Go(func() {
				_, err := l.Append(context.Background(), claiming(stream, claim))
				if err == nil {
					return
				}
				if !errors.Is(err, log.ErrConflict) {
					t.Error(err)
				} else if _, err := log.Claimant(context.Background(), s, partition, claim); err != nil {
					t.Errorf("refused, but the claim is held by nobody: %v", err)
				}
			})
		}
		wg.Wait()
	}
}

func conflictAlone(t *testing.T, s log.Store) {
	u := samePartition(3)
	l := writer(t, s)
	must(t, l, claiming(u[0], "handle:anna"))
	var pending []*log.Pending
	for _, e := range []events.Event{event(u[1], 1), claiming(u[1], "handle:anna"), event(u[2], 2), claiming(u[2], "handle:bert"), claiming(u[2], "handle:carl")} {
		p, err := l.Submit(e)
		if err != nil {
			t.Fatal(err)
		}
		pending = append(pending, p)
	}
	for i, refused := range []bool{false, true, false, false, true} {
		if _, err := pending[i].Wait(t.Context()); errors.Is(err, log.ErrConflict) != refused || !refused && err != nil {
			t.Errorf("append %d: %v, want refused = %v", i, err, refused)
		}
	}
}

func atomic(t *testing.T, s log.Store) {
	stream := uuid.New()
	l := writer(t, s)
	must(t, l, versioned(stream, 1))
	if _, err := l.Append(t.Context(), event(stream, 1), versioned(stream, 2), versioned(stream, 2)); !errors.Is(err, log.ErrConflict) {
		t.Fatalf("a version twice in one append: %v, want a conflict", err)
	}
	if n := len(all(t, s, events.PartitionOf(stream, Partitions))); n != 1 {
		t.Fatalf("%d events, want 1", n)
	}
}

func readWithin(t *testing.T, s log.Store) {
	stream := uuid.New()
	l := writer(t, s)
	partition := must(t, l, event(stream, 1), event(stream, 2), event(stream, 3))[0].Partition
	must(t, l, event(stream, 4), event(stream, 5))
	for after := range uint64(7) {
		var got, want []uint64
		for e, err := range log.Events(t.Context(), s, partition, after) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Sequence)
		}
		for n := after + 1; n <= 5; n++ {
			want = append(want, n)
		}
		if !slices.Equal(got, want) {
			t.Errorf("after %d: %v, want %v", after, got, want)
		}
	}
}

func readStream(t *testing.T, s log.Store) {
	u := samePartition(2)
	l := writer(t, s)
	must(t, l, versioned(u[0], 1), versioned(u[1], 1), versioned(u[0], 2))
	must(t, l, versioned(u[1], 2))
	must(t, l, versioned(u[0], 3))
	for stream, n := range map[uuid.UUID]int{u[0]: 3, u[1]: 2, uuid.New(): 0} {
		got, err := log.ReadStream(t.Context(), s, stream)
		if err != nil || len(got) != n {
			t.Fatalf("%d events (%v), want %d", len(got), err, n)
		}
		for i, e := range got {
			if e.Stream != stream || e.Version != uint64(i+1) { //nolint:gosec // small
				t.Errorf("event %d is version %d of %s", i, e.Version, e.Stream)
			}
		}
	}
}

func headHasAllThatIsRead(t *testing.T, s log.Store) {
	const appends = 300
	stream := uuid.New()
	partition := events.PartitionOf(stream, Partitions)
	l := writer(t, s)
	written := make(chan error, 1)
	go func() {
		for v := range uint64(appends) {
			if _, err := l.Append(t.Context(), versioned(stream, v+1)); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	reads := map[string]func() (last uint64, err error){
		"a read of the stream": func() (last uint64, err error) {
			got, err := log.ReadStream(t.Context(), s, stream)
			if len(got) > 0 {
				last = got[len(got)-1].Sequence
			}
			return last, err
		},
		"a read of the partition": func() (last uint64, err error) {
			for c, err := range s.Read(t.Context(), partition, 0) {
				if err != nil {
					return last, err
				}
				last = c.Last()
			}
			return last, nil
		},
	}
	for done := false; !done; {
		select {
		case err := <-written:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		default:
		}
		for name, read := range reads {
			last, err := read()
			if err != nil {
				t.Fatal(err)
			}
			head, err := s.Head(t.Context(), partition)
			if err != nil || head < last {
				t.Fatalf("%s came to %d, the head after it is %d (%v)", name, last, head, err)
			}
		}
	}
	if head, err := s.Head(t.Context(), partition); err != nil || head != appends {
		t.Fatalf("the head is %d (%v), want %d", head, err, appends)
	}
}

func fence(t *testing.T, s log.Store) {
	stream := uuid.New()
	partition := events.PartitionOf(stream, Partitions)
	commit := func(first uint64, n int) events.Commit {
		var evs []events.Event
		for i := range n {
			evs = append(evs, event(stream, i))
		}
		c, err := events.Encode(s.Name(), partition, first, start, uuid.New(), evs)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if err := s.Insert(t.Context(), commit(1, 3), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Insert(t.Context(), commit(1, 1), nil); !errors.Is(err, log.ErrTaken) {
		t.Fatalf("a taken sequence: %v, want ErrTaken", err)
	}
	if n := len(all(t, s, partition)); n != 3 {
		t.Fatalf("%d events, want 3", n)
	}
}

func bytesKept(t *testing.T, s log.Store) {
	stream := uuid.New()
	data := make([]byte, events.MaxData)
	for i := range data {
		data[i] = byte(i * 7)
	}
	e := event(stream, 1)
	e.Data = data
	at := must(t, writer(t, s), e)[0]
	got, err := log.Get(t.Context(), s, at.Position)
	if err != nil || string(got.Data) != string(data) {
		t.Fatalf("%d bytes came back (%v), want the %d that went in", len(got.Data), err, len(data))
	}
}
