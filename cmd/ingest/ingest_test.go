package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/cmd/ingest"
	"github.com/meet5/backend/cmd/simulation"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// open opens a folder's data until the test ends or the caller closes it.
func open(t *testing.T, dir string) *backend.Tools {
	t.Helper()
	b, err := backend.OpenTools(t.Context(), backend.Where{Data: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func closed(t *testing.T, b *backend.Tools) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

func writer(t *testing.T, b *backend.Tools) *ingest.Writer {
	t.Helper()
	w, err := ingest.NewWriter(t.Context(), b.Logs.Activity, b.Logs.User)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func add(t *testing.T, w *ingest.Writer, acts []ingest.Act) {
	t.Helper()
	for _, a := range acts {
		if err := w.Add(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
}

func takeIn(t *testing.T, b *backend.Tools, acts []ingest.Act) ingest.Counts {
	t.Helper()
	w := writer(t, b)
	add(t, w, acts)
	n, err := w.Flush(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func wantCounts(t *testing.T, what string, got ingest.Counts, written, known int) {
	t.Helper()
	if want := (ingest.Counts{Written: written, Known: known}); got != want {
		t.Errorf("%s: %+v, want %+v", what, got, want)
	}
}

func member(n int) uuid.UUID { return events.DeriveID(uuid.NameSpaceURL, fmt.Sprint("member ", n)) }

// visits are n of them, by so many actors in turn. Another series has other IDs.
func visits(series string, n, actors int) []ingest.Act {
	acts := make([]ingest.Act, n)
	for i := range acts {
		acts[i] = ingest.Act{
			ID: events.DeriveID(uuid.NameSpaceURL, fmt.Sprint(series, i)), Kind: activity.Visit,
			Actor: member(i % actors), Target: member(actors), At: start.Add(time.Duration(i) * time.Second), JoinedAt: start,
		}
	}
	return acts
}

// written are the IDs in each partition of the activity log, in order.
func written(t *testing.T, b *backend.Tools) [][]uuid.UUID {
	t.Helper()
	ids := make([][]uuid.UUID, b.Logs.Activity.Partitions())
	for p := range ids {
		for e, err := range log.Events(t.Context(), b.Logs.Activity, p, 0) {
			if err != nil {
				t.Fatal(err)
			}
			ids[p] = append(ids[p], e.ID)
		}
	}
	return ids
}

func TestEachPartitionGetsItsEventsOnceAndInTheSourcesOrder(t *testing.T) {
	b := open(t, t.TempDir())
	acts := visits("a", 40_000, 50) // some chunks
	wantCounts(t, "first", takeIn(t, b, acts), len(acts), 0)
	want := make([][]uuid.UUID, b.Logs.Activity.Partitions())
	for _, a := range acts {
		p := events.PartitionOf(a.Actor, len(want))
		want[p] = append(want[p], a.ID)
	}
	if !slices.EqualFunc(written(t, b), want, slices.Equal) {
		t.Fatal("the log's order is not the source's")
	}
	wantCounts(t, "again", takeIn(t, b, acts), 0, len(acts))
	wantCounts(t, "with more at its end", takeIn(t, b, append(slices.Clone(acts), visits("b", 10, 3)...)), 10, len(acts))
	if got := len(slices.Concat(written(t, b)...)); got != len(acts)+10 {
		t.Errorf("%d events in the log, want %d", got, len(acts)+10)
	}
}

func TestASourceThatNamesAnActTwiceAddsItOnce(t *testing.T) {
	b := open(t, t.TempDir())
	acts := visits("a", 20, 4)
	wantCounts(t, "twice in a row", takeIn(t, b, append(slices.Clone(acts), acts...)), len(acts), len(acts))
}

func TestWhatWasInterruptedIsTakenUpAgain(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	acts := visits("a", 30_000, 7)
	w := writer(t, b)
	add(t, w, acts[:25_000])
	closed(t, b) // without Flush: only whole chunks have been handed on
	b = open(t, dir)
	before := len(slices.Concat(written(t, b)...))
	if before == 0 || before >= 25_000 {
		t.Fatalf("%d events were written before the interruption", before)
	}
	wantCounts(t, "again", takeIn(t, b, acts), len(acts)-before, before)
	if got := len(slices.Concat(written(t, b)...)); got != len(acts) {
		t.Errorf("%d events in the log, want %d", got, len(acts))
	}
}

// TestActsBeyondTheLogsWindowAreKnown: a partition knows its last log.Window IDs
// by itself. Some are older when the source is taken in again, and the others
// become so while it is.
func TestActsBeyondTheLogsWindowAreKnown(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	old := visits("old", log.Window+1000, 1) // one actor: all in one partition
	wantCounts(t, "first", takeIn(t, b, old), len(old), 0)
	closed(t, b)
	b = open(t, dir)
	fresh := visits("fresh", log.Window+1000, 1)
	wantCounts(t, "again, with as many new ones in its middle", takeIn(t, b, slices.Concat(old[:2000], fresh, old[2000:])), len(fresh), len(old))
	closed(t, b)
	b = open(t, dir)
	p := events.PartitionOf(member(0), b.Logs.Activity.Partitions())
	if head, err := b.Logs.Activity.Head(t.Context(), p); err != nil || head != uint64(len(old)+len(fresh)) {
		t.Errorf("the partition's head is %d, want %d; %v", head, len(old)+len(fresh), err)
	}
}

func TestAnActorJoinedWhenTheUserLogSays(t *testing.T) {
	b := open(t, t.TempDir())
	joined := start.Add(-time.Hour)
	if err := ingest.Accounts(t.Context(), b.User, []ingest.Account{{ID: member(0), Name: "Anna", JoinedAt: joined}}); err != nil {
		t.Fatal(err)
	}
	takeIn(t, b, visits("a", 2, 2)) // member 0 is registered, member 1 is not
	seen := 0
	for p := range b.Logs.Activity.Partitions() {
		for e, err := range log.Events(t.Context(), b.Logs.Activity, p, 0) {
			if err != nil {
				t.Fatal(err)
			}
			a, err := events.ParseActivity(e.Data)
			if err != nil {
				t.Fatal(err)
			}
			want := start
			if e.Stream == member(0) {
				want = joined
			}
			if !a.JoinedAt.Equal(want) || !a.Trusted {
				t.Errorf("%s: joined at %v, want %v; trusted %v", e.Stream, a.JoinedAt, want, a.Trusted)
			}
			seen++
		}
	}
	if seen != 2 {
		t.Errorf("%d events", seen)
	}
}

func TestAFailureEndsTheIngest(t *testing.T) {
	b := open(t, t.TempDir())
	w := writer(t, b)
	b.Logs.Activity.Close()
	add(t, w, visits("a", 10, 2))
	if _, err := w.Flush(t.Context()); !errors.Is(err, log.ErrClosed) {
		t.Errorf("with the log closed: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ingest.NewWriter(ended, b.Logs.Activity, b.Logs.User); !errors.Is(err, context.Canceled) {
		t.Errorf("with its context ended: %v", err)
	}
}

func TestAWorldIsTakenInWhole(t *testing.T) {
	b := open(t, t.TempDir())
	world, err := simulation.New(simulation.Config{Seed: 3, Members: 50, Days: 1, CheatsPer: 1, Until: start})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []ingest.Counts{{Written: len(world.Acts)}, {Known: len(world.Acts)}} {
		told := 0
		n, err := ingest.World(t.Context(), b.User, b.Logs.Activity, b.Logs.User, world, func() { told++ })
		if err != nil || n != want || told != len(world.Acts) {
			t.Errorf("%+v, want %+v; told %d times; %v", n, want, told, err)
		}
		if head, err := b.Logs.User.Head(t.Context(), 0); err != nil || head != uint64(len(world.Members)) {
			t.Errorf("%d registrations of %d members; %v", head, len(world.Members), err)
		}
	}
}
