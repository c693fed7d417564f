package engine

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestATrackOfTargetsIsAListInTheOrderOfTheLastTouch compares it, and cursors of
// several reaches, with plain lists.
func TestATrackOfTargetsIsAListInTheOrderOfTheLastTouch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := &Engine{}
		track := &targets{length: int64(rapid.IntRange(0, 1).Draw(t, "aged") * 90)}
		at := setWords
		for range rapid.IntRange(1, 3).Draw(t, "cursors") {
			c := cursor{at: at, most: 1 << rapid.IntRange(0, 8).Draw(t, "most")}
			at += cursorWords
			track.cursors = append(track.cursors, c)
			track.keep = max(track.keep, c.most)
		}
		w := make([]uint32, at)
		lists := make([][]entry, len(track.cursors)) // what each counts, oldest first
		many := rapid.IntRange(1, 400).Draw(t, "targets")
		for step := range rapid.IntRange(0, 900).Draw(t, "steps") {
			target := uint32(rapid.IntRange(1, many).Draw(t, "target")) //nolint:gosec // small
			now := int64(step)
			e := newEntry(now, uint64(step), target) //nolint:gosec // small
			from := now - 90
			for i, c := range track.cursors {
				for {
					gone, ok := track.expire(g, w, c, from)
					if !ok {
						break
					}
					if len(lists[i]) == 0 || lists[i][0].what() != gone {
						t.Fatalf("expired %d, want the first of %v", gone, lists[i])
					}
					lists[i] = lists[i][1:]
				}
				if len(lists[i]) > 0 && lists[i][0].at() < from {
					t.Fatalf("%v has not expired", lists[i][0])
				}
			}
			before, place := track.touch(g, w, e)
			for i, c := range track.cursors {
				known := slices.IndexFunc(lists[i], func(x entry) bool { return x.what() == target })
				fresh, dropped := track.enter(g, w, c, before, place)
				if fresh != (known < 0) {
					t.Fatalf("step %d: fresh is %t", step, fresh)
				}
				if known >= 0 {
					lists[i] = slices.Delete(lists[i], known, known+1)
				}
				lists[i] = append(lists[i], e)
				want := uint32(0)
				if len(lists[i]) > c.most {
					want, lists[i] = lists[i][0].what(), lists[i][1:]
				}
				if dropped != want {
					t.Fatalf("step %d: dropped %d, want %d", step, dropped, want)
				}
			}
			if rapid.IntRange(0, 20).Draw(t, "look") > 0 {
				continue
			}
			for i, c := range track.cursors {
				var got []entry
				track.each(g, w, c, func(e entry) { got = append(got, e) })
				if !slices.Equal(got, lists[i]) || c.count(w) != len(lists[i]) {
					t.Fatalf("step %d: %v, want %v", step, got, lists[i])
				}
				for n := range uint32(many) { //nolint:gosec // small
					counted := slices.ContainsFunc(lists[i], func(x entry) bool { return x.what() == n+1 })
					if track.counts(g, w, c, n+1) != counted {
						t.Fatalf("step %d: counts %d: %t", step, n+1, !counted)
					}
				}
			}
		}
	})
}
