package flag_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/flag"
)

// manyFlags is how many flags the board has that questions are asked of.
const manyFlags = 1_000_000

// crowded makes a board of many flags of 20 rules and 300,000 users, in all states;
// every third is assigned to one of 20 moderators. One flag of all is appealed, of
// the rule rule-7 and the first moderator's. It returns the bytes that a flag takes.
func crowded(b *testing.B) (*flag.Board, uint64) {
	b.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	board := flag.NewBoard()
	for i := range manyFlags {
		f := new(flag.Flag)
		step := func(e events.Event, err error) {
			if err == nil {
				err = f.Apply(events.Recorded{Event: e})
			}
			if err == nil {
				err = board.Apply(events.Recorded{Event: e})
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		id := uuid.NewSHA1(uuid.UUID{5}, []byte{byte(i), byte(i >> 8), byte(i >> 16)})
		at := start.Add(time.Duration(i) * time.Minute)
		rule := i % 20
		member := uuid.UUID{0xee, byte(i % 300_000), byte(i % 300_000 >> 8), byte(i % 300_000 >> 16)}
		step(raisedFor(b, id, member, fmt.Sprintf("rule-%d", rule), 5*rule, at, 30*24*time.Hour).Event, nil)
		if i%3 == 0 || i == 7 {
			step(f.Assign(uuid.UUID{0x0d, byte(i % 7 * 3 % 20)}, moderator, at))
		}
		switch {
		case i == 7:
			step(f.Decide(flag.Confirm, moderator, flag.Text{}, at))
			step(f.Appeal(member, flag.Text{Plain: "please"}, at))
		case i/20%10 < 5:
			step(f.Decide(flag.Dismiss, moderator, flag.Text{}, at))
		case i/20%10 < 7:
			step(f.Decide(flag.Confirm, moderator, flag.Text{}, at))
		case i/20%10 < 8:
			step(f.Expire(at.AddDate(0, 0, 30)))
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	return board, (after.HeapAlloc - before.HeapAlloc) / manyFlags
}

// BenchmarkAMillionFlags asks for first pages, and some from the middle.
func BenchmarkAMillionFlags(b *testing.B) {
	board, size := crowded(b)
	middle := start.Add(manyFlags / 2 * time.Minute)
	first, nobody := uuid.UUID{0x0d, 1}, uuid.UUID{}
	queries := map[string]flag.Query{
		"all":                       {},
		"one state":                 {States: []flag.State{flag.Open}},
		"a rule":                    {Rule: "rule-7"},
		"a rule in a state":         {Rule: "rule-7", States: []flag.State{flag.Dismissed}},
		"a combination that is one": {Rule: "rule-7", States: []flag.State{flag.Appealed}, Assignee: &first, MinScore: 30},
		"a combination of none":     {Rule: "rule-8", States: []flag.State{flag.Appealed}, MinScore: 30},
		"a score":                   {MinScore: 95},
		"nobody's":                  {Assignee: &nobody, States: []flag.State{flag.Open, flag.Appealed}},
		"a moderator's":             {Assignee: &uuid.UUID{0x0d, 3}},
		"a user's":                  {User: uuid.UUID{0xee, 1}},
		"a day in the middle":       {Since: middle, Until: middle.Add(24 * time.Hour), States: []flag.State{flag.Open}},
		"from the middle on":        {After: &flag.Place{RaisedAt: middle, Score: 50}},
	}
	names := make([]string, 0, len(queries))
	for name := range queries {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, sort := range flag.Sorts() {
			q := queries[name]
			q.Sort, q.Limit = sort, 50
			b.Run(name+"/"+string(sort), func(b *testing.B) {
				for b.Loop() {
					board.List(q)
				}
			})
		}
	}
	b.Run("next", func(b *testing.B) {
		for b.Loop() {
			board.MostUrgent("", 0)
		}
	})
	b.Run("assign and give back", func(b *testing.B) {
		f, _ := board.MostUrgent("", 0)
		by := moderator
		for i := 0; b.Loop(); i++ {
			to := by
			if i%2 == 1 {
				to = uuid.Nil
			}
			e, err := f.Assign(to, by, start)
			if err != nil {
				b.Fatal(err)
			}
			if err := f.Apply(events.Recorded{Event: e}); err != nil {
				b.Fatal(err)
			}
			if err := board.Apply(events.Recorded{Event: e}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("memory", func(b *testing.B) {
		for b.Loop() {
			runtime.KeepAlive(board)
		}
		b.ReportMetric(float64(size), "B/flag")
	})
}
