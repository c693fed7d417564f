// Package ledgertest is the conformance suite of ledgers: what
// subscription.Ledger promises, checked on one. Every adapter's tests run it.
package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription"
)

// Run checks every promise. Each call of open returns a new, empty ledger.
func Run(t *testing.T, open func(t *testing.T) subscription.Ledger) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*testing.T, subscription.Ledger)
	}{
		{"a checkpoint starts at zero and is kept by its place", byPlace},
		{"a checkpoint never moves back", forward},
		{"of checkpoints saved at once the furthest stays", forwardAtOnce},
		{"all else of a checkpoint is the last save's", lastSave},
		{"checkpoints are listed by group, log and partition", listed},
		{"a parked event comes back whole", whole},
		{"to park again keeps the time and replaces the rest", again},
		{"of an event parked twice in one call the last counts", twice},
		{"parked by many at once it is there once", parkedAtOnce},
		{"what is parked is kept by its place and sorted by sequence", parkedByPlace},
		{"the zero place is all places, sorted", allPlaces},
		{"no more than the bound is returned, the first of them", bounded},
		{"an event may be unparked twice", unparkedTwice},
		{"an order needs an event, and the last one counts", ordered},
		{"parking again takes back the order to retry and not the one to drop", orderParkedAgain},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

var (
	start = time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC)
	here  = subscription.Place{Group: "group", Log: "log", Partition: 3}
	// places are in order. Names and numbers are such that neither joined keys nor
	// numbers as text sort as they do.
	places = []subscription.Place{
		{Group: "a", Log: "log", Partition: 0},
		{Group: "a", Log: "log", Partition: 2},
		{Group: "a", Log: "log", Partition: 10},
		{Group: "a", Log: "log-2", Partition: 1},
		{Group: "a-b", Log: "log", Partition: 1},
		{Group: "b", Log: "log", Partition: 1},
	}
)

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n got %#v\nwant %#v", what, got, want)
	}
}

func save(t *testing.T, l subscription.Ledger, c subscription.Checkpoint) {
	t.Helper()
	noError(t, l.Save(t.Context(), c))
}

func load(t *testing.T, l subscription.Ledger, at subscription.Place) subscription.Checkpoint {
	t.Helper()
	c, err := l.Load(t.Context(), at)
	noError(t, err)
	return c
}

func list(t *testing.T, l subscription.Ledger) []subscription.Checkpoint {
	t.Helper()
	all, err := l.List(t.Context())
	noError(t, err)
	return all
}

func checkpoint(at subscription.Place, sequence uint64) subscription.Checkpoint {
	return subscription.Checkpoint{Place: at, Sequence: sequence, At: start, Rate: 12.5, Failure: "read the log"}
}

// event is a parked one; the same every time.
func event(at subscription.Place, sequence uint64) subscription.Parked {
	return subscription.Parked{
		Place: at, Sequence: sequence,
		Event: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, at, sequence)), Key: uuid.UUID{15: byte(sequence % 3)},
		Type: events.ProfileVisited, Reason: "it cannot be read", Attempts: 1, ParkedAt: start,
	}
}

func park(t *testing.T, l subscription.Ledger, list ...subscription.Parked) {
	t.Helper()
	noError(t, l.Park(t.Context(), list...))
}

func parked(t *testing.T, l subscription.Ledger, at subscription.Place) []subscription.Parked {
	t.Helper()
	all, err := l.Parked(t.Context(), at)
	noError(t, err)
	return all
}

func expect(t *testing.T, l subscription.Ledger, at subscription.Place, want ...subscription.Parked) {
	t.Helper()
	got := parked(t, l, at)
	if len(got) == 0 && len(want) == 0 {
		return
	}
	equal(t, fmt.Sprintf("parked at %v", at), got, want)
}

// together runs n copies of f at once.
func together(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	errs := make([]error, n)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-begin
			errs[i] = f(i)
		})
	}
	close(begin)
	wg.Wait()
	noError(t, errors.Join(errs...))
}

func byPlace(t *testing.T, l subscription.Ledger) {
	if all := list(t, l); len(all) != 0 {
		t.Fatalf("a new ledger has checkpoints: %+v", all)
	}
	for i, at := range places {
		equal(t, "the first checkpoint", load(t, l, at), subscription.Checkpoint{Place: at})
		save(t, l, checkpoint(at, uint64(100+i))) //nolint:gosec // small
	}
	for i, at := range places {
		equal(t, "the checkpoint", load(t, l, at), checkpoint(at, uint64(100+i))) //nolint:gosec // small
	}
}

func forward(t *testing.T, l subscription.Ledger) {
	for _, step := range [][2]uint64{{5, 5}, {3, 5}, {5, 5}, {9, 9}, {0, 9}, {1 << 40, 1 << 40}} {
		save(t, l, checkpoint(here, step[0]))
		equal(t, fmt.Sprintf("after saving %d", step[0]), load(t, l, here).Sequence, step[1])
	}
}

func forwardAtOnce(t *testing.T, l subscription.Ledger) {
	const savers = 16
	for round := range uint64(4) {
		together(t, savers, func(i int) error {
			return l.Save(context.Background(), checkpoint(here, round*savers+uint64(i)+1)) //nolint:gosec // small
		})
		equal(t, "the sequence", load(t, l, here).Sequence, (round+1)*savers)
	}
}

func lastSave(t *testing.T, l subscription.Ledger) {
	save(t, l, checkpoint(here, 9))
	last := subscription.Checkpoint{Place: here, Sequence: 4, At: start.Add(time.Microsecond), Rate: 0.25}
	save(t, l, last)
	last.Sequence = 9
	equal(t, "the checkpoint", load(t, l, here), last)

	elsewhere := last
	elsewhere.At = last.At.In(time.FixedZone("elsewhere", 3600))
	save(t, l, elsewhere)
	if got := load(t, l, here); !got.At.Equal(last.At) {
		t.Fatalf("its time is %v, want %v", got.At, last.At)
	}
	// What another process leaves behind at its first beat.
	first := subscription.Checkpoint{Place: places[0]}
	save(t, l, first)
	equal(t, "a checkpoint of zeros", load(t, l, places[0]), first)
}

func listed(t *testing.T, l subscription.Ledger) {
	var want []subscription.Checkpoint
	for _, at := range places {
		want = append(want, checkpoint(at, 7))
	}
	for _, c := range slices.Backward(want) {
		save(t, l, c)
	}
	equal(t, "the list", list(t, l), want)
}

func whole(t *testing.T, l subscription.Ledger) {
	first, long, odd, waiting := event(here, 1), event(here, 2), event(here, 3), event(here, 1<<40)
	long.Reason, long.Attempts = strings.Repeat("long reason, ü", subscription.MaxReason)[:subscription.MaxReason-1], 1_000_000
	odd.Reason = "payload \"\x01\x7f\u2028\x00\": <&> 'x'; $set: {a.b: 1}"
	waiting.Reason, waiting.Attempts, waiting.Order = "", 0, subscription.Retry
	long.Reason = strings.ToValidUTF8(long.Reason, "")
	park(t, l)
	expect(t, l, here)
	park(t, l, first, long, odd, waiting)
	expect(t, l, here, first, long, odd, waiting)
}

func again(t *testing.T, l subscription.Ledger) {
	first := event(here, 5)
	first.Order = subscription.Retry
	park(t, l, first)
	park(t, l, first)
	expect(t, l, here, first)

	next := first
	next.Reason, next.Attempts, next.Order, next.ParkedAt = "it fails otherwise", 2, "", start.Add(time.Hour)
	park(t, l, next, event(here, 6))
	next.ParkedAt = first.ParkedAt
	expect(t, l, here, next, event(here, 6))
}

func twice(t *testing.T, l subscription.Ledger) {
	first, last := event(here, 5), event(here, 5)
	last.Reason, last.ParkedAt = "the last", start.Add(time.Hour)
	park(t, l, first, last)
	last.ParkedAt = first.ParkedAt
	expect(t, l, here, last)
}

func parkedAtOnce(t *testing.T, l subscription.Ledger) {
	var want []subscription.Parked
	for i := range uint64(50) {
		want = append(want, event(here, i+1))
	}
	backwards := slices.Clone(want)
	slices.Reverse(backwards)
	together(t, 8, func(i int) error {
		if i%2 == 0 {
			return l.Park(context.Background(), want...)
		}
		return l.Park(context.Background(), backwards...)
	})
	expect(t, l, here, want...)
	together(t, 8, func(int) error {
		for _, p := range want[:10] {
			if err := l.Unpark(context.Background(), here, p.Sequence); err != nil {
				return err
			}
		}
		return nil
	})
	expect(t, l, here, want[10:]...)
}

func parkedByPlace(t *testing.T, l subscription.Ledger) {
	for _, at := range places {
		park(t, l, event(at, 11), event(at, 2), event(at, 1<<33), event(at, 300))
	}
	noError(t, l.Unpark(t.Context(), places[1], 2))
	for i, at := range places {
		want := []subscription.Parked{event(at, 2), event(at, 11), event(at, 300), event(at, 1<<33)}
		if i == 1 {
			want = want[1:]
		}
		expect(t, l, at, want...)
	}
	expect(t, l, subscription.Place{Group: "a", Log: "log", Partition: 1})
}

func allPlaces(t *testing.T, l subscription.Ledger) {
	var want []subscription.Parked
	for _, at := range places {
		want = append(want, event(at, 2), event(at, 10))
	}
	backwards := slices.Clone(want)
	slices.Reverse(backwards)
	park(t, l, backwards...)
	expect(t, l, subscription.Place{}, want...)
}

func bounded(t *testing.T, l subscription.Ledger) {
	first, last := places[0], places[len(places)-1]
	park(t, l, event(last, 1))
	var most []subscription.Parked
	for i := range uint64(subscription.MaxParked + 1) {
		most = append(most, event(first, i+1))
	}
	for part := range slices.Chunk(most, 1000) {
		park(t, l, part...)
	}
	most = most[:subscription.MaxParked]
	for _, at := range []subscription.Place{first, {}} {
		got := parked(t, l, at)
		if !reflect.DeepEqual(got, most) {
			t.Fatalf("at %v: %d events, want the first %d", at, len(got), len(most))
		}
	}
	expect(t, l, last, event(last, 1))
}

func unparkedTwice(t *testing.T, l subscription.Ledger) {
	park(t, l, event(here, 1), event(here, 2))
	for range 2 {
		noError(t, l.Unpark(t.Context(), here, 1))
		expect(t, l, here, event(here, 2))
	}
	// What is parked anew after that is new.
	later := event(here, 1)
	later.ParkedAt = start.Add(time.Hour)
	park(t, l, later)
	expect(t, l, here, later, event(here, 2))
}

func ordered(t *testing.T, l subscription.Ledger) {
	order := func(sequence uint64, o subscription.Order) error { return l.Order(t.Context(), here, sequence, o) }
	if err := order(1, subscription.Retry); !errors.Is(err, subscription.ErrNotParked) {
		t.Fatalf("an order about nothing: %v", err)
	}
	expect(t, l, here)
	park(t, l, event(here, 1), event(here, 2))
	for _, o := range []subscription.Order{
		subscription.Retry, subscription.Retry, subscription.Drop, subscription.Drop, subscription.Retry, subscription.Drop,
	} {
		noError(t, order(1, o))
		expect(t, l, here, withOrder(event(here, 1), o), event(here, 2))
	}
	noError(t, l.Unpark(t.Context(), here, 1))
	if err := order(1, subscription.Drop); !errors.Is(err, subscription.ErrNotParked) {
		t.Fatalf("an order about an event that is gone: %v", err)
	}
	if err := l.Order(t.Context(), places[0], 2, subscription.Drop); !errors.Is(err, subscription.ErrNotParked) {
		t.Fatalf("an order about another place's event: %v", err)
	}
	park(t, l, event(here, 1))
	expect(t, l, here, event(here, 1), event(here, 2))
}

func withOrder(p subscription.Parked, order subscription.Order) subscription.Parked {
	p.Order = order
	return p
}

// Whoever retries an event and fails parks it again. Who has ordered meanwhile
// that it be dropped is heard.
func orderParkedAgain(t *testing.T, l subscription.Ledger) {
	for _, step := range []struct{ given, parkedWith, want subscription.Order }{
		{subscription.Retry, "", ""},
		{"", subscription.Retry, subscription.Retry},
		{subscription.Drop, "", subscription.Drop},
		{"", subscription.Retry, subscription.Drop},
		{subscription.Retry, "", ""},
		{"", subscription.Drop, subscription.Drop},
		{"", "", subscription.Drop},
	} {
		park(t, l, event(here, 2))
		if step.given != "" {
			park(t, l, withOrder(event(here, 1), ""))
			noError(t, l.Order(t.Context(), here, 1, step.given))
		}
		park(t, l, withOrder(event(here, 1), step.parkedWith))
		expect(t, l, here, withOrder(event(here, 1), step.want), event(here, 2))
	}
}
