package engine

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

func TestARecentSetIsAListInTheOrderOfTheLastTouch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r recent
		var list []node // oldest first
		many := rapid.IntRange(1, 200).Draw(t, "targets")
		for step := range rapid.IntRange(0, 600).Draw(t, "steps") {
			target := uuid.UUID{15: byte(rapid.IntRange(0, many).Draw(t, "target"))}
			at := slices.IndexFunc(list, func(n node) bool { return n.target == target })
			if got := r.has(target); got != (at >= 0) {
				t.Fatalf("has %v: %v, want %v", target, got, at >= 0)
			}
			if rapid.IntRange(0, 2).Draw(t, "pop") == 0 && len(list) > 0 {
				if got := r.pop(); got != list[0].target {
					t.Fatalf("popped %v, want %v", got, list[0].target)
				}
				list = list[1:]
			} else {
				if at >= 0 {
					list = slices.Delete(list, at, at+1)
				}
				m := moment{at: int64(step), sequence: uint64(step)} //nolint:gosec // small
				if fresh := r.touch(target, m); fresh != (at < 0) {
					t.Fatalf("touch %v: fresh is %v", target, fresh)
				}
				list = append(list, node{target: target, last: m})
			}
			if r.n != len(list) || r.expired(int64(step)) != (len(list) > 0 && list[0].last.at < int64(step)) {
				t.Fatalf("%d targets, want %d", r.n, len(list))
			}
		}
		var want []uint64
		for _, n := range list {
			want = append(want, n.last.sequence)
			if !r.has(n.target) {
				t.Fatalf("%v is lost", n.target)
			}
		}
		if got := r.appendEvidence(nil); !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}
