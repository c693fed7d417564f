package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/rule"
)

func snapshot(t fataler, g *engine.Engine) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := g.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAnEngineGoesOnFromASnapshotAsIfNothingHadHappened(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules, evs := drawRules(t), drawEvents(t)
		whole := newEngine(t, rules...)
		at := rapid.IntRange(0, len(evs)).Draw(t, "snapshot after")
		var g *engine.Engine
		for i := range evs {
			if i == at {
				b := snapshot(t, whole)
				// Other users have come before in this process.
				users := engine.NewUsers()
				other, err := engine.NewByActor(users, rules)
				if err != nil {
					t.Fatal(err)
				}
				for j := len(evs) - 1; j >= 0; j -= 3 {
					other.Process(&evs[j], nil)
				}
				if g, err = engine.NewByActor(users, rules); err != nil {
					t.Fatal(err)
				}
				if err := g.Restore(iotest.OneByteReader(bytes.NewReader(b))); err != nil {
					t.Fatal(err)
				}
				if g.Stats() != whole.Stats() || g.Last() != whole.Last() {
					t.Fatalf("%+v at %d, want %+v at %d", g.Stats(), g.Last(), whole.Stats(), whole.Last())
				}
				if diff := cmp.Diff(len(b), len(snapshot(t, g))); diff != "" {
					t.Fatalf("its own snapshot has another size:\n%s", diff)
				}
			}
			want := tell(whole.Process(&evs[i], nil))
			if g == nil {
				continue
			}
			if diff := cmp.Diff(want, tell(g.Process(&evs[i], nil))); diff != "" {
				t.Fatalf("event %d (-want +got):\n%s", i+1, diff)
			}
		}
	})
}

func TestRulesMayKeepAsMuchOfOneUserAsTheyCan(t *testing.T) {
	both := pairs(rule.MaxThreshold, 300*24*time.Hour)
	rules := []rule.Rule{both}
	for i, kind := range []rule.Kind{rule.Visit, rule.Like, rule.Unlike} {
		one := both
		one.ID, one.Reading, one.Events, one.Aggregate = "distinct-"+string(kind), "", []rule.Kind{kind}, rule.Distinct
		rules = append(rules, one)
		one.ID, one.Aggregate = "count-"+string(kind), rule.Count
		rules = append(rules, one)
		one.ID, one.Aggregate, one.Events = "sequence-"+string(kind), rule.InSequence, []rule.Kind{rule.Visit, rule.Like, rule.Unlike}
		then := one.Events[(i+1)%3]
		one.Sequence, one.Events = &rule.Sequence{First: kind, Then: then, Within: rule.Duration(24 * time.Hour)}, []rule.Kind{kind, then}
		rules = append(rules, one)
	}
	g := newEngine(t, rules...)
	n, hits := 0, map[string]int{}
	feedAll := func(g *engine.Engine, eventType string, from, to int) {
		for target := from; target < to; target++ {
			n++
			for _, h := range g.Process(feed(n, eventType, target), nil) {
				hits[h.Rule.ID]++
			}
		}
	}
	// Of each kind as many as wait for another.
	feedAll(g, events.ProfileVisited, 0, 20_000)
	feedAll(g, events.ProfileLiked, 20_000, 40_000)
	feedAll(g, events.LikeWithdrawn, 40_000, 60_000)
	restored := newEngine(t, rules...)
	if err := restored.Restore(bytes.NewReader(snapshot(t, g))); err != nil {
		t.Fatal(err)
	}
	if want := map[string]int{
		"distinct-visit": 1, "distinct-like": 1, "distinct-unlike": 1, "count-visit": 1, "count-like": 1, "count-unlike": 1,
	}; !maps.Equal(hits, want) {
		t.Errorf("hits %v, want %v", hits, want)
	}
	before := n
	for _, g := range []*engine.Engine{g, restored} {
		n = before
		clear(hits)
		feedAll(g, events.ProfileLiked, 10_000, 20_000)
		feedAll(g, events.ProfileVisited, 60_000, 70_000)
		feedAll(g, events.ProfileLiked, 60_000, 70_000)
		if hits["pairs"] != 1 || hits["sequence-visit"] != 1 || len(hits) != 2 {
			t.Errorf("hits %v, want one each of pairs and of visits with likes", hits)
		}
	}
}

// fresh is an engine for rules of the first one's kind.
func fresh(t fataler, rules ...rule.Rule) *engine.Engine {
	t.Helper()
	if rules[0].Ordered() {
		return newOrdered(t, engine.NewUsers(), 16, rules...)
	}
	return newEngine(t, rules...)
}

// taken is a snapshot that holds something of every kind.
func taken(t testing.TB, rules []rule.Rule) []byte {
	g := fresh(t, rules...)
	evs := traffic(3000, 20)
	for i := range evs {
		evs[i].Sequence = uint64(i + 1) //nolint:gosec // an index
		g.Process(&evs[i], nil)
	}
	return snapshot(t, g)
}

func TestADamagedSnapshotIsRefused(t *testing.T) {
	byActor, ordered := engine.Split(book(t))
	t.Run("by actor", func(t *testing.T) { refuseDamage(t, byActor) })
	t.Run("ordered", func(t *testing.T) { refuseDamage(t, ordered) })
}

func refuseDamage(t *testing.T, rules []rule.Rule) {
	b := taken(t, rules)
	restore := func(b []byte, rules ...rule.Rule) error {
		return fresh(t, rules...).Restore(bytes.NewReader(b))
	}
	if err := restore(b, rules...); err != nil {
		t.Fatal(err)
	}
	if err := restore(b, rules[1:]...); !errors.Is(err, engine.ErrSnapshot) {
		t.Errorf("of other rules: %v", err)
	}
	other := rules[0]
	other.Score++
	if err := restore(b, append([]rule.Rule{other}, rules[1:]...)...); !errors.Is(err, engine.ErrSnapshot) {
		t.Errorf("of another version: %v", err)
	}
	for n := 0; n < len(b); n += 1 + len(b)/100 {
		if err := restore(b[:n], rules...); !errors.Is(err, engine.ErrSnapshot) {
			t.Fatalf("cut off at %d: %v", n, err)
		}
		harmed := bytes.Clone(b)
		harmed[n] ^= 0x24
		if err := restore(harmed, rules...); !errors.Is(err, engine.ErrSnapshot) {
			t.Fatalf("harmed at %d: %v", n, err)
		}
	}
	broken := errors.New("the disk is gone")
	if err := fresh(t, rules...).Restore(io.MultiReader(bytes.NewReader(b[:100]), iotest.ErrReader(broken))); !errors.Is(err, broken) || errors.Is(err, engine.ErrSnapshot) {
		t.Errorf("a reader that fails: %v", err)
	}
}

// What an engine keeps of some traffic, by a rule of every kind, is part of the format:
// instances go on from snapshots of the build before.
func TestAnEngineKeepsWhatTheFormatSays(t *testing.T) {
	long := rule.Duration(10 * time.Minute)
	rules := []rule.Rule{
		{Aggregate: rule.Count, Threshold: 20, Window: rule.Window{SinceAccountCreation: 100 * long}},
		{Aggregate: rule.Distinct, Threshold: 60, Where: rule.Where{Target: rule.New}},
		{Aggregate: rule.PairedDistinct, Threshold: 9, Reading: rule.Both},
		{Aggregate: rule.PairedDistinct, Threshold: 9, Reading: rule.Each, Window: rule.Window{SinceFirstEvent: long}},
		{Aggregate: rule.InRatio, Threshold: 30, Ratio: &rule.Ratio{Of: rule.Like, Per: rule.Visit, Volume: 10}},
		{Aggregate: rule.InSequence, Threshold: 9, Sequence: &rule.Sequence{First: rule.Visit, Then: rule.Like, Within: long}},
		{Aggregate: rule.InRegularity, Threshold: 9, Regularity: &rule.Regularity{Variation: 50}},
	}
	for i := range rules {
		r := &rules[i]
		r.ID, r.Title = fmt.Sprintf("rule-%d", i), "t"
		r.Key, r.Effect, r.Mode, r.Score = rule.KeyActor, rule.Flag, rule.Live, 10
		r.Events = []rule.Kind{rule.Visit, rule.Like}
		if r.Window == (rule.Window{}) {
			r.Window.Sliding = long
		}
	}
	b := taken(t, rules)
	const want = "m5fraud2 90644 98a39612"
	if sum := fmt.Sprintf("%s %d %08x", b[:8], len(b), crc32.ChecksumIEEE(b)); sum != want {
		t.Errorf("the snapshot is %s, was %s: count the number of the format on, and say here what it is now", sum, want)
	}
}

func FuzzRestore(f *testing.F) {
	byActor, ordered := engine.Split(book(f))
	kinds := [][]rule.Rule{byActor, ordered}
	for _, rules := range kinds {
		f.Add(taken(f, rules))
		f.Add(snapshot(f, fresh(f, rules...)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, rules := range kinds {
			if err := fresh(t, rules...).Restore(bytes.NewReader(b)); err != nil && !errors.Is(err, engine.ErrSnapshot) {
				t.Fatalf("neither restored nor refused: %v", err)
			}
		}
	})
}

// BenchmarkSnapshot writes and reads back the state of 10,000 busy users with all
// shipped rules, in bytes of the snapshot.
func BenchmarkSnapshot(b *testing.B) {
	rules := shipped(b)
	g := newEngine(b, rules...)
	evs := traffic(1_000_000, 10_000)
	for i := range evs {
		evs[i].Sequence = uint64(i + 1) //nolint:gosec // an index
		g.Process(&evs[i], nil)
	}
	bytesOf := snapshot(b, g)
	b.Run("write", func(b *testing.B) {
		b.SetBytes(int64(len(bytesOf)))
		for b.Loop() {
			if err := g.Snapshot(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.SetBytes(int64(len(bytesOf)))
		users := engine.NewUsers()
		for b.Loop() {
			g, err := engine.NewByActor(users, rules)
			if err == nil {
				err = g.Restore(bytes.NewReader(bytesOf))
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
