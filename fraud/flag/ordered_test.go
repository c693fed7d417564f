package flag

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// TestAnOrderedSetIsASortedList changes a set at random, by far more than a chunk
// holds, and walks it both ways.
func TestAnOrderedSetIsASortedList(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := ordered{order: byTime}
		var want []*Flag
		flags := make([]*Flag, 4*chunkSize)
		for i := range flags {
			flags[i] = &Flag{ID: uuid.UUID{byte(i >> 8), byte(i)}, RaisedAt: time.Unix(int64(i/2), 0)}
		}
		in := map[*Flag]bool{}
		for range rapid.IntRange(1, 12).Draw(rt, "rounds") {
			// Each round adds or removes a stretch, in either direction.
			from := rapid.IntRange(0, len(flags)-1).Draw(rt, "from")
			to := rapid.IntRange(from, len(flags)-1).Draw(rt, "to")
			step := rapid.IntRange(1, 3).Draw(rt, "step")
			add := rapid.Bool().Draw(rt, "add")
			var stretch []*Flag
			for i := from; i <= to; i += step {
				stretch = append(stretch, flags[i])
			}
			if rapid.Bool().Draw(rt, "backwards") {
				slices.Reverse(stretch)
			}
			for _, f := range stretch {
				switch {
				case add && !in[f]:
					o.insert(f)
				case !add && in[f]:
					o.remove(f)
				}
				in[f] = add
			}
		}
		for _, f := range flags {
			if in[f] {
				want = append(want, f)
			}
		}
		var forth, back []*Flag
		for p := (at{}); o.get(p) != nil; p = o.next(p) {
			forth = append(forth, o.get(p))
		}
		for p := o.before(o.end()); o.get(p) != nil; p = o.before(p) {
			back = append(back, o.get(p))
		}
		slices.Reverse(back)
		if !slices.Equal(forth, want) || !slices.Equal(back, want) || o.n != len(want) {
			rt.Fatalf("%d forth, %d back, n is %d, want %d", len(forth), len(back), o.n, len(want))
		}
		probe := rapid.SampledFrom(flags).Draw(rt, "probe")
		i, _ := slices.BinarySearchFunc(want, probe, byTime)
		if got := o.get(o.seek(probe)); i < len(want) && got != want[i] || i == len(want) && got != nil {
			rt.Fatalf("seek finds %+v, want place %d of %d", got, i, len(want))
		}
		for i, c := range o.chunks {
			if len(c) == 0 || len(c) > chunkSize {
				rt.Fatalf("chunk %d holds %d", i, len(c))
			}
			if i > 0 && len(c)+len(o.chunks[i-1]) <= chunkSize/4 {
				rt.Fatalf("chunks %d and %d hold %d and %d: they should be one", i-1, i, len(o.chunks[i-1]), len(c))
			}
		}
	})
}
