package flag_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/flag"
)

// life is a flag that random things happen to.
type life struct {
	flag.Flag
	// left is where the last bulk operation has left it, and decided what that was.
	left    events.BulkFlag
	decided flag.Decision
}

// step makes a random event of the flag, if its state allows.
func (l *life) step(t *rapid.T) (events.Event, error) {
	at := start.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "step at")) * time.Second)
	switch rapid.IntRange(0, 7).Draw(t, "what") {
	case 0:
		return l.Appeal(l.User, flag.Text{Plain: "x"}, at)
	case 1:
		return l.Assign(rapid.SampledFrom([]uuid.UUID{{}, moderator, {0x0f}}).Draw(t, "assignee"), moderator, at)
	case 2:
		return l.Annotate(moderator, flag.Text{Plain: "x"}, at)
	case 3:
		return l.Expire(at)
	case 4:
		return l.Undo(l.decided, l.left, moderator, flag.Text{}, uuid.UUID{0xb0}, at)
	case 5:
		d := rapid.SampledFrom(flag.Decisions()).Draw(t, "bulk decision")
		before := l.Standpoint()
		e, err := l.DecideInBulk(d, moderator, flag.Text{}, uuid.UUID{0xb0}, at)
		if err == nil {
			l.left, l.decided = events.BulkFlag{Flag: l.ID, Version: e.Version, Before: before}, d
		}
		return e, err
	case 6:
		// What a later build may write: it moves the flag on, and nothing else.
		return events.Event{Type: "fraud.flag_sung.v1", Stream: l.ID, Version: l.Version + 1, OccurredAt: at, Data: []byte(`7`)}, nil
	default:
		return l.Decide(rapid.SampledFrom(flag.Decisions()).Draw(t, "decision"), moderator, flag.Text{}, at)
	}
}

// drawBoard makes a board and the same flags side by side, of random events some of
// which come twice.
func drawBoard(t testing.TB, rt *rapid.T) (*flag.Board, []*life) {
	b := flag.NewBoard()
	var all []*life
	apply := func(l *life, e events.Recorded) {
		if err := l.Apply(e); err != nil {
			rt.Fatal(err)
		}
		for range rapid.IntRange(1, 2).Draw(rt, "times") {
			if err := b.Apply(e); err != nil {
				rt.Fatal(err)
			}
		}
	}
	for range rapid.IntRange(0, 60).Draw(rt, "steps") {
		if len(all) == 0 || rapid.IntRange(0, 2).Draw(rt, "raise") == 0 {
			l := new(life)
			apply(l, raisedFor(t, uuid.UUID{5, byte(len(all))}, rapid.SampledFrom([]uuid.UUID{{1}, {2}, {3}}).Draw(rt, "user"),
				rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "rule"), rapid.IntRange(0, 3).Draw(rt, "score"),
				start.Add(time.Duration(rapid.IntRange(0, 5).Draw(rt, "at"))*time.Second),
				time.Duration(rapid.IntRange(0, 4).Draw(rt, "while"))*time.Second))
			all = append(all, l)
			continue
		}
		l := rapid.SampledFrom(all).Draw(rt, "flag")
		if e, err := l.step(rt); err == nil {
			apply(l, events.Recorded{Event: e})
		}
	}
	return b, all
}

func drawQuery(rt *rapid.T) flag.Query {
	q := flag.Query{
		States:   rapid.SliceOfNDistinct(rapid.SampledFrom(flag.States()), 0, 3, rapid.ID).Draw(rt, "states"),
		Rule:     rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(rt, "of rule"),
		User:     rapid.SampledFrom([]uuid.UUID{{}, {}, {1}, {9}}).Draw(rt, "of user"),
		MinScore: rapid.IntRange(0, 3).Draw(rt, "min score"),
		Sort:     rapid.SampledFrom(flag.Sorts()).Draw(rt, "sort"),
		Limit:    rapid.IntRange(1, 5).Draw(rt, "limit"),
	}
	if rapid.Bool().Draw(rt, "by assignee") {
		q.Assignee = new(rapid.SampledFrom([]uuid.UUID{{}, moderator, {0x77}}).Draw(rt, "assigned to"))
	}
	if rapid.Bool().Draw(rt, "since") {
		q.Since = start.Add(time.Duration(rapid.IntRange(0, 5).Draw(rt, "from")) * time.Second)
	}
	if rapid.Bool().Draw(rt, "until") {
		q.Until = start.Add(time.Duration(rapid.IntRange(0, 6).Draw(rt, "to")) * time.Second)
	}
	return q
}

// TestTheBoardListsWhatANaiveOneWould asks a board random questions, page by page.
func TestTheBoardListsWhatANaiveOneWould(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b, all := drawBoard(t, rt)
		q := drawQuery(rt)
		want := naive(all, q)
		var got []flag.Flag
		for {
			page, next := b.List(q)
			got = append(got, page...)
			if next == nil {
				break
			}
			if len(page) != q.Limit {
				rt.Fatalf("a page of %d, want %d", len(page), q.Limit)
			}
			q.After = next
		}
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("%+v (-want +got):\n%s", q, diff)
		}
	})
}

// TestTheBoardKnowsWhatANaiveOneWould asks for all but lists.
func TestTheBoardKnowsWhatANaiveOneWould(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b, all := drawBoard(t, rt)
		rule := rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "rule wanted")
		score := rapid.IntRange(0, 3).Draw(rt, "score wanted")
		at := start.Add(time.Duration(rapid.IntRange(0, 10).Draw(rt, "then")) * time.Second)

		var urgent, due []flag.Flag
		counts := map[flag.State]int{}
		for _, l := range all {
			if l.State.Waiting() && l.Assignee == uuid.Nil && (rule == "" || l.Rule == rule) && l.Score >= score {
				urgent = append(urgent, l.Flag)
			}
			if l.State == flag.Open && !l.Escalated && !l.ExpiresAt.IsZero() && !at.Before(l.ExpiresAt) {
				due = append(due, l.Flag)
			}
			if l.Rule == rule {
				counts[l.State]++
			}
		}
		slices.SortFunc(urgent, func(a, b flag.Flag) int {
			if a.Score != b.Score {
				return b.Score - a.Score
			}
			return before(a, b)
		})
		if got, ok := b.MostUrgent(rule, score); ok != (len(urgent) > 0) || ok && got != urgent[0] {
			rt.Fatalf("most urgent: %+v, want the first of %+v", got, urgent)
		}
		slices.SortFunc(due, func(a, b flag.Flag) int {
			if c := a.ExpiresAt.Compare(b.ExpiresAt); c != 0 {
				return c
			}
			return slices.Compare(a.ID[:], b.ID[:])
		})
		most := rapid.IntRange(1, 3).Draw(rt, "most")
		if diff := cmp.Diff(due[:min(most, len(due))], b.Due(at, most)); diff != "" {
			rt.Fatalf("due at %s (-want +got):\n%s", at, diff)
		}
		if diff := cmp.Diff(counts, b.Counts(rule)); diff != "" {
			rt.Fatalf("counts (-want +got):\n%s", diff)
		}
		q := drawQuery(rt)
		standing := map[string][]uuid.UUID{}
		for _, f := range naive(all, flag.Query{Since: q.Since, Until: q.Until}) {
			if f.State != flag.Dismissed && f.State != flag.Overturned {
				standing[f.Rule] = append(standing[f.Rule], f.User)
			}
		}
		if diff := cmp.Diff(standing, b.Standing(q.Since, q.Until)); diff != "" {
			rt.Fatalf("standing (-want +got):\n%s", diff)
		}
		for _, l := range all {
			rivals := slices.ContainsFunc(all, func(o *life) bool {
				return o.ID != l.ID && o.User == l.User && o.Rule == l.Rule && !slices.Contains([]flag.State{flag.Dismissed, flag.Overturned, flag.Expired}, o.State)
			})
			if got := b.Rival(l.Flag); got != rivals {
				rt.Fatalf("%s has a rival: %t, want %t", l.ID, got, rivals)
			}
			if got, ok := b.Get(l.ID); !ok || got != l.Flag {
				rt.Fatalf("get: %+v, want %+v", got, l.Flag)
			}
		}
	})
}

func before(a, b flag.Flag) int {
	if c := a.RaisedAt.Compare(b.RaisedAt); c != 0 {
		return c
	}
	return slices.Compare(a.ID[:], b.ID[:])
}

func naive(all []*life, q flag.Query) (out []flag.Flag) {
	for _, f := range all {
		if (len(q.States) == 0 || slices.Contains(q.States, f.State)) && (q.Rule == "" || q.Rule == f.Rule) &&
			(q.User == uuid.Nil || q.User == f.User) && f.Score >= q.MinScore && (q.Assignee == nil || *q.Assignee == f.Assignee) &&
			!(!q.Since.IsZero() && f.RaisedAt.Before(q.Since)) && !(!q.Until.IsZero() && !f.RaisedAt.Before(q.Until)) {
			out = append(out, f.Flag)
		}
	}
	slices.SortFunc(out, func(a, b flag.Flag) int {
		c := before(a, b)
		if (q.Sort == flag.Mildest || q.Sort == flag.Severest) && a.Score != b.Score {
			c = a.Score - b.Score
		}
		if q.Sort == flag.Newest || q.Sort == flag.Severest {
			c = -c
		}
		return c
	})
	return out
}
