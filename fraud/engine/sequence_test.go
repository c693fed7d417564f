package engine_test

import (
	"slices"
	"testing"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/rule"
)

// A first event makes one pair, however soon the pair is out of the window or makes room
// for later ones.
func TestAFirstEventMakesOnePair(t *testing.T) {
	type act struct {
		at     time.Duration
		kind   string
		target int
	}
	const visit, like = events.ProfileVisited, events.ProfileLiked
	for _, c := range []struct {
		name   string
		window time.Duration
		acts   []act
		hits   []int // after so many acts
	}{
		{"the pair is out of the window, and its first event would still be in time", time.Second, []act{
			{0, visit, 1}, {2 * time.Second, like, 1}, {7 * time.Second, like, 1},
		}, []int{2}},
		{"another pair has taken its place", 10 * time.Second, []act{
			{0, visit, 1}, {0, visit, 2}, {2 * time.Second, like, 1}, {3 * time.Second, like, 2}, {4 * time.Second, like, 1},
			{13500 * time.Millisecond, visit, 3}, {13500 * time.Millisecond, like, 3},
		}, []int{3, 7}},
		{"it is done again", time.Second, []act{
			{0, visit, 1}, {2 * time.Second, like, 1}, {6 * time.Second, visit, 1}, {7 * time.Second, like, 1},
		}, []int{2, 4}},
	} {
		g := newEngine(t, rule.Rule{
			ID: "a", Title: "A", Key: rule.KeyActor, Events: []rule.Kind{rule.Visit, rule.Like}, Effect: rule.Flag, Mode: rule.Live, Threshold: 1,
			Window: rule.Window{Sliding: rule.Duration(c.window)}, Aggregate: rule.InSequence,
			Sequence: &rule.Sequence{First: rule.Visit, Then: rule.Like, Within: rule.Duration(10 * time.Second)},
		})
		var hits []int
		for i, a := range c.acts {
			e := feed(i+1, a.kind, a.target)
			e.RecordedAt = start.Add(a.at)
			if len(g.Process(e, nil)) > 0 {
				hits = append(hits, i+1)
			}
		}
		if !slices.Equal(hits, c.hits) {
			t.Errorf("%s: hits at %v, want %v", c.name, hits, c.hits)
		}
	}
}
