package backtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/backtest"
)

func TestASampleIsDrawnByLotAndComplete(t *testing.T) {
	l := newLog(t)
	fill(t, l, history(3000))
	hits := make(map[uuid.UUID]int)
	for _, h := range sequential(t, l)["burst"] {
		hits[h.User]++
	}
	const size = 5
	drawn, first := make(map[uuid.UUID]bool), ""
	for seed := range uint64(20) {
		for _, workers := range []int{1, 3} {
			s := run(t, l, backtest.Options{Sample: size, Seed: seed, Workers: workers}).Rules[0].Sample
			text, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			if workers > 1 && string(text) != first {
				t.Fatalf("%s\nwith one worker %s", text, first)
			}
			first = string(text)
			if len(s) != size {
				t.Fatalf("%d users", len(s))
			}
			for _, u := range s {
				drawn[u.User] = true
				if u.Hits != hits[u.User] || u.EvidenceCount != 5 || len(u.Evidence) != 5 || u.Evidence[4].OccurredAt != u.FirstAt ||
					u.Path != "/v1/moderation/users/"+u.User.String() {
					t.Fatalf("%+v, want %d hits", u, hits[u.User])
				}
			}
		}
	}
	if len(drawn) < len(hits)*2/3 { // of 100 draws with equal chances
		t.Errorf("of %d users %d were ever drawn", len(hits), len(drawn))
	}
	if s := run(t, l, backtest.Options{Sample: -1}).Rules[0]; len(s.Sample)+len(s.Flags) != 0 {
		t.Error("a sample that nobody asked for")
	}
}

func TestAReportIsCutToFit(t *testing.T) {
	l := newLog(t)
	fill(t, l, history(5000))
	report := run(t, l, backtest.Options{Sample: 50, Curve: true, Labels: each(labelled(user(1))), Record: backtest.Record{Flagged: map[string][]uuid.UUID{}}})
	whole, err := report.Fit(1 << 30)
	if err != nil || strings.Contains(string(whole), `"cut"`) {
		t.Fatalf("%v: it is cut for no reason", err)
	}
	least, err := report.Fit(1)
	if err != nil {
		t.Fatal(err)
	}
	for most := len(whole) - 1; most >= len(least); most = most * 4 / 5 {
		text, err := report.Fit(most)
		if err != nil || len(text) > most {
			t.Fatalf("%d bytes, want at most %d: %v", len(text), most, err)
		}
		var got backtest.Report
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		for i, r := range got.Rules {
			want := report.Rules[i]
			if !got.Cut || r.Hits != want.Hits || r.Users != want.Users || r.OnRecord.Newly != want.OnRecord.Newly || *r.Curve.AUC != *want.Curve.AUC || len(r.Flags) > 0 {
				t.Fatalf("cut to %d it says %+v", most, r)
			}
			if len(r.Curve.Points) == 0 && len(r.Sample) > 0 {
				t.Fatalf("cut to %d it has users and no curve", most)
			}
		}
	}
	if report.Cut || len(report.Rules[0].Flags) != 50 {
		t.Error("the report itself was cut")
	}
}

func TestMarkdownHasALineARuleAndOneForAllTogether(t *testing.T) {
	l := newLog(t)
	fill(t, l, history(2000))
	var text strings.Builder
	report := run(t, l, backtest.Options{Curve: true, Labels: each(labelled(user(1), user(2)))})
	if err := report.WriteMarkdown(&text); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(lines) != 2+len(rules)+2+2 || !strings.HasPrefix(lines[2], "| burst | draft | 5 |") || !strings.HasPrefix(lines[6], "| together, by the highest score |") ||
		lines[9] != "Measured against imported labels: 2 bad users, 98 good ones, 0 of whom nothing is known." {
		t.Errorf("%s", text.String())
	}
	for _, line := range lines[:8] {
		if strings.Count(line, "|") != 10 {
			t.Errorf("a line has other columns: %s", line)
		}
	}
	text.Reset()
	if err := report.WriteTable(&text); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "THRESHOLD") || !strings.Contains(text.String(), "together") {
		t.Errorf("%s", text.String())
	}
}

func TestItEndsWithItsContextInEveryPass(t *testing.T) {
	const n, passes = 3000, 1 + 4*4 // a ladder of four rules takes four passes each
	l := newLog(t)
	fill(t, l, history(n))
	for pass := range passes {
		ctx, cancel := context.WithCancel(t.Context())
		report, err := backtest.Run(ctx, l, rules, backtest.Options{Curve: true, Workers: 1, Progress: func(p backtest.Progress) {
			if p.Total != n*passes || p.Events > p.Total {
				t.Errorf("%+v", p)
			}
			if p.Events > uint64(n*pass) { //nolint:gosec // small
				cancel()
			}
		}})
		cancel()
		// Passes for which nobody is left are skipped, so that it may be done
		// before it is seen that it is to end.
		if last := err == nil && pass > passes/2; !last && (!errors.Is(err, context.Canceled) || len(report.Rules) != 0) {
			t.Errorf("in pass %d: %v", pass, err)
		}
	}
	var last backtest.Progress
	run(t, l, backtest.Options{Curve: true, Progress: func(p backtest.Progress) { last = p }})
	if last.Events != n*passes {
		t.Errorf("in the end it has come to %+v", last)
	}
}

// counting counts the commits that it hands over once it is told that all is over.
type counting struct {
	log.Reader
	over atomic.Bool
	late atomic.Int32
}

func (c *counting) Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	return func(yield func(events.Commit, error) bool) {
		for commit, err := range c.Reader.Read(context.WithoutCancel(ctx), partition, after) {
			if c.over.Load() {
				c.late.Add(1)
			}
			if !yield(commit, err) {
				return
			}
		}
	}
}

func TestOnceItIsCancelledNoFurtherCommitIsWorkedThrough(t *testing.T) {
	l := newLog(t)
	evs := history(2000)
	for chunk := range slices.Chunk(evs, 50) { // many commits
		fill(t, l, chunk)
	}
	const workers = 2
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := &counting{Reader: l}
	_, err := backtest.Run(ctx, c, rules, backtest.Options{Workers: workers, Progress: func(backtest.Progress) {
		cancel()
		c.over.Store(true)
	}})
	// Each worker may have been about to begin a partition, or be handed one more of
	// that which it is at.
	if late := c.late.Load(); !errors.Is(err, context.Canceled) || late > 2*workers {
		t.Errorf("%v, and %d commits came too late", err, late)
	}
}

func TestTooManyRulesAreRefused(t *testing.T) {
	l := newLog(t)
	list := slices.Repeat(rules[:1], backtest.MaxRules+1)
	if _, err := backtest.Run(t.Context(), l, list, backtest.Options{}); !errors.Is(err, backtest.ErrTooMany) {
		t.Errorf("%v", err)
	}
	if _, err := backtest.Run(t.Context(), l, rules, backtest.Options{Against: "guesses"}); err == nil {
		t.Error("it is measured against guesses")
	}
}
