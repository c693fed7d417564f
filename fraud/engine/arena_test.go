package engine

import (
	"testing"

	"pgregory.net/rapid"
)

func TestClassesAreTheLeastWithRoom(t *testing.T) {
	for n := 1; n <= chunkSize; n++ {
		c := classFor(n)
		if c < 1 || c > classes || sizeOf(c) < n || c > 1 && sizeOf(c-1) >= n {
			t.Fatalf("class %d of size %d for %d", c, sizeOf(c), n)
		}
	}
}

func TestBlocksAreZeroedAndDoNotOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type block struct {
			at uint32
			c  class
			n  int
		}
		var a arena[uint32]
		var live []block
		for n := range rapid.IntRange(1, 120).Draw(t, "steps") {
			if len(live) > 0 && rapid.IntRange(0, 2).Draw(t, "release") == 0 {
				i := rapid.IntRange(0, len(live)-1).Draw(t, "which")
				a.release(live[i].at, live[i].c)
				live = append(live[:i], live[i+1:]...)
				continue
			}
			c := classFor(rapid.IntRange(1, 1<<rapid.IntRange(1, 16).Draw(t, "bits")).Draw(t, "size"))
			b := block{a.alloc(c), c, n + 1}
			for i, v := range a.block(b.at, c) {
				if v != 0 {
					t.Fatalf("word %d of a new block is %d", i, v)
				}
				a.block(b.at, c)[i] = uint32(b.n) //nolint:gosec // small
			}
			live = append(live, b)
			for _, b := range live {
				for i, v := range a.block(b.at, b.c) {
					if v != uint32(b.n) { //nolint:gosec // small
						t.Fatalf("word %d of block %d is %d", i, b.n, v)
					}
				}
			}
		}
	})
}

func TestAnEntryHoldsWhatWasPutIntoIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := sighting{
			at: rapid.Int64Range(0, latestTime).Draw(t, "at"), sequence: rapid.Uint64Range(0, maxSequence).Draw(t, "sequence"),
			kind: kind(rapid.IntRange(0, int(kinds)-1).Draw(t, "kind")), target: rapid.Uint32Range(0, maxTarget).Draw(t, "target"), //nolint:gosec // few
		}
		e := newEntry(&s)
		for set := range uint8(maxSets) {
			if e.again(set) {
				t.Fatalf("seen again by set %d", set)
			}
			e.markAgain(set)
			if !e.again(set) {
				t.Fatalf("not seen again by set %d", set)
			}
		}
		if got := (sighting{e.at(), e.sequence(), e.kind(), e.target()}); got != s || e.whose() != uint64(s.target)<<kindBits|uint64(s.kind) {
			t.Fatalf("%+v, want %+v", got, s)
		}
	})
}
