package mongolog_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/servertest"
)

func firstsOf(commits []events.Commit) []uint64 {
	out := make([]uint64, len(commits))
	for i, c := range commits {
		out[i] = c.First
	}
	return out
}

func TestByKeyFindsACommitByOneKeyWithinTheRange(t *testing.T) {
	s := newStore(t, servertest.Database(t, "mongolog"), 2)
	insert(t, s, commitOf(t, 0, 1, 2, 10), "a", "z") // both bounds met, but by different keys
	insert(t, s, commitOf(t, 0, 3, 1, 10), "m")
	insert(t, s, commitOf(t, 0, 4, 1, 10))
	insert(t, s, commitOf(t, 0, 5, 3, 10), "n", "b", "mm")
	insert(t, s, commitOf(t, 1, 1, 1, 10), "m")
	for _, c := range []struct {
		from, to string
		want     []uint64
	}{
		{"m", "n", []uint64{3, 5}},
		{"c", "l", nil},
		{"m", "m\x00", []uint64{3}},
		{"m", "m", nil},
		{"z", "a", nil},
		{"", "\xff", []uint64{1, 3, 5}},
		{"a", "b", []uint64{1}},
	} {
		got, err := s.ByKey(t.Context(), 0, c.from, c.to)
		if err != nil || !slices.Equal(firstsOf(got), c.want) {
			t.Errorf("%q to %q: %v (%v), want %v", c.from, c.to, firstsOf(got), err, c.want)
		}
	}
}

func TestByKeyFindsTheVersionsOfOneStreamOnly(t *testing.T) {
	s := newStore(t, servertest.Database(t, "mongolog"), 1)
	// Streams that differ in one byte, of which some sort as no text would.
	var streams []uuid.UUID
	for _, b := range []byte{0x00, 0x01, 0x40, 0x7f, 0x80, 0xfe, 0xff} {
		u := uuid.UUID{15: b}
		u[0] = b
		streams = append(streams, u)
	}
	want := make(map[uuid.UUID][]uint64)
	next := uint64(1)
	for _, v := range []uint64{1, 2, 255, 256, 1 << 40} {
		for _, u := range streams {
			insert(t, s, commitOf(t, 0, next, 1, 10), events.VersionKey(u, v))
			want[u] = append(want[u], next)
			next++
		}
	}
	for u, firsts := range want {
		got, err := s.ByKey(t.Context(), 0, events.VersionKey(u, 0), events.VersionKey(u, 1<<64-1))
		if err != nil || !slices.Equal(firstsOf(got), firsts) {
			t.Errorf("stream %s: %v (%v), want %v", u, firstsOf(got), err, firsts)
		}
	}
}

func TestByKeyAndHeldAgreeWithAScanOverRandomKeys(t *testing.T) {
	s := newStore(t, servertest.Database(t, "mongolog"), 1)
	// Short keys of few bytes meet often and are often prefixes of each other.
	key := rapid.Custom(func(t *rapid.T) string {
		return string(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a', 'b', 0x7f, 0x80, 0xff}), 0, 4).Draw(t, "key"))
	})
	owner := make(map[string]uint64)
	for i := range 60 {
		first := uint64(i + 1)
		var keys []string
		for j := range i % 4 {
			k := key.Example(i*4 + j)
			if _, taken := owner[k]; !taken {
				owner[k] = first
				keys = append(keys, k)
			}
		}
		insert(t, s, commitOf(t, 0, first, 1, 10), keys...)
	}
	rapid.Check(t, func(rt *rapid.T) {
		from, to := key.Draw(rt, "from"), key.Draw(rt, "to")
		var want []uint64
		for k, first := range owner {
			if from <= k && k < to && !slices.Contains(want, first) {
				want = append(want, first)
			}
		}
		slices.Sort(want)
		got, err := s.ByKey(t.Context(), 0, from, to)
		if err != nil || !slices.Equal(firstsOf(got), want) {
			rt.Fatalf("%q to %q: %v (%v), want %v", from, to, firstsOf(got), err, want)
		}
		held, err := s.Held(t.Context(), 0, []string{from, to})
		_, wantFrom := owner[from]
		_, wantTo := owner[to]
		if err != nil || held[from] != wantFrom || held[to] != wantTo {
			rt.Fatalf("held %v (%v), want %q: %v, %q: %v", held, err, from, wantFrom, to, wantTo)
		}
	})
}

func TestHeldAsksForMoreKeysThanOneQueryTakes(t *testing.T) {
	s := newStore(t, servertest.Database(t, "mongolog"), 1)
	keys := make([]string, 25_000)
	for i := range keys {
		keys[i] = fmt.Sprintf("claim:%d", i)
	}
	insert(t, s, commitOf(t, 0, 1, 3, 10), keys[0], keys[12_345], keys[24_999])
	held, err := s.Held(t.Context(), 0, keys)
	if err != nil || len(held) != 3 || !held[keys[0]] || !held[keys[12_345]] || !held[keys[24_999]] {
		t.Fatalf("held %v (%v), want three", held, err)
	}
}
