package backtest_test

import (
	"encoding/csv"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/backtest"
	"github.com/meet5/backend/fraud/labels"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/fraud/rulebook"
)

// edits is a real stream with real bad actors. It is no part of the project.
const edits = "../../../shared/data/wikipedia-edits.csv"

type edit struct {
	user, page string
	at         time.Time
	bad        bool
}

func readEdits(t testing.TB) (all []edit) {
	t.Helper()
	f, err := os.Open(edits)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is not there", edits)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	if _, err := r.Read(); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := r.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		seconds, err := strconv.ParseFloat(line[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, edit{line[0], line[1], start.Add(time.Duration(seconds * float64(time.Second))), line[3] == "1"})
	}
}

// asEvents takes every edit as a visit, and a user's first as joining.
func asEvents(all []edit) (evs []events.Event, known []labels.Label) {
	joined := make(map[string]time.Time)
	for i, e := range all {
		if _, ok := joined[e.user]; !ok {
			joined[e.user] = e.at
		}
		who := uuid.NewSHA1(uuid.UUID{1}, []byte(e.user))
		evs = append(evs, events.Event{
			ID: uuid.NewSHA1(uuid.UUID{3}, strconv.AppendInt(nil, int64(i), 10)), Type: events.ProfileVisited, Stream: who, OccurredAt: e.at,
			Data: events.Activity{Target: uuid.NewSHA1(uuid.UUID{2}, []byte(e.page)), JoinedAt: joined[e.user], Trusted: true}.AppendJSON(nil),
		})
		if e.bad {
			known = append(known, labels.Label{User: who, At: e.at, Label: "banned", Source: "wikipedia"})
		}
	}
	return evs, known
}

func each(known []labels.Label) func(yield func(labels.Label, error) bool) {
	return func(yield func(labels.Label, error) bool) {
		for _, l := range known {
			if !yield(l, nil) {
				return
			}
		}
	}
}

func TestOnARealStreamItMeasuresWhatAFewLinesOverTheFileDo(t *testing.T) {
	all := readEdits(t)
	l := newLog(t)
	evs, known := asEvents(all)
	fill(t, l, evs)

	first, early, bad := map[string]time.Time{}, map[string]int{}, map[string]bool{}
	for _, e := range all {
		if _, ok := first[e.user]; !ok {
			first[e.user] = e.at
		}
		if !e.at.After(first[e.user].Add(10 * time.Minute)) {
			early[e.user]++
		}
		bad[e.user] = bad[e.user] || e.bad
	}
	hits, right, banned := 0, 0, 0
	for u := range first {
		if bad[u] {
			banned++
		}
		if early[u] >= 3 {
			hits++
			if bad[u] {
				right++
			}
		}
	}

	// The area under the curve of the same count, by pairs of a banned user and
	// another, over as many thresholds.
	thresholds := []int{1, 2, 3, 4, 5, 7, 10, 15, 20, 30}
	rungs := make(map[string]int)
	var bannedAt, othersAt [11]float64 // users by the highest threshold reached
	for u := range first {
		for _, t := range thresholds {
			if early[u] >= t {
				rungs[u]++
			}
		}
		if bad[u] {
			bannedAt[rungs[u]]++
		} else {
			othersAt[rungs[u]]++
		}
	}
	won, pairs := 0.0, 0.0
	for high, b := range bannedAt {
		for low, o := range othersAt {
			pairs += b * o
			switch {
			case high > low:
				won += b * o
			case high == low:
				won += b * o / 2
			}
		}
	}

	r := aRule("three-early", 3, rule.Window{SinceAccountCreation: rule.Duration(10 * time.Minute)}, rule.Count)
	report, err := backtest.Run(t.Context(), l, []rule.Rule{r}, backtest.Options{Labels: each(known), Curve: true, Thresholds: thresholds})
	if err != nil {
		t.Fatal(err)
	}
	got := report.Rules[0]
	if got.Events != uint64(len(all)) || got.Hits != uint64(hits) || got.Users != hits { //nolint:gosec // a length
		t.Errorf("%d events, %d hits on %d users; want %d, and %d", got.Events, got.Hits, got.Users, len(all), hits)
	}
	m := got.Measured
	if m == nil || m.Bad != banned || m.Good != len(first)-banned || m.HitBad != right ||
		!near(m.Precision, float64(right)/float64(hits)) || !near(m.Recall, float64(right)/float64(banned)) {
		t.Errorf("%+v; want %d of %d banned among %d", m, right, banned, hits)
	}
	if !near(got.Curve.AUC, won/pairs) || got.Curve.Points[2].Users != hits {
		t.Errorf("AUC %v, want %v", *got.Curve.AUC, won/pairs)
	}
	t.Logf("precision %.3f, recall %.3f, AUC %.3f", *m.Precision, *m.Recall, *got.Curve.AUC)

	book, err := rulebook.Rules()
	if err != nil {
		t.Fatal(err)
	}
	report, err = backtest.Run(t.Context(), l, book, backtest.Options{Labels: each(known)})
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range report.Rules {
		if m := one.Measured; m.Bad != banned || m.Good != len(first)-banned || m.HitBad+m.HitGood != one.Users {
			t.Errorf("%s: %d users; %+v", one.Rule, one.Users, m)
		}
	}
	var table strings.Builder
	if err := report.WriteMarkdown(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("the shipped rules:\n%s", table.String())
}

// BenchmarkRun is a backtest of the real stream from the embedded log.
func BenchmarkRun(b *testing.B) {
	evs, known := asEvents(readEdits(b))
	l := newLog(b)
	fill(b, l, evs)
	book, err := rulebook.Rules()
	if err != nil {
		b.Fatal(err)
	}
	first := slices.IndexFunc(book, func(r rule.Rule) bool { return r.ID == "visit-scraping" })
	one := book[first : first+1]
	for _, c := range []struct {
		name  string
		rules []rule.Rule
		curve bool
	}{{"one rule", one, false}, {"the book", book, false}, {"one curve", one, true}, {"curves of the book", book, true}} {
		for _, workers := range []int{1, 2} {
			b.Run(c.name+"/workers="+strconv.Itoa(workers), func(b *testing.B) {
				for b.Loop() {
					if _, err := backtest.Run(b.Context(), l, c.rules, backtest.Options{Workers: workers, Labels: each(known), Curve: c.curve}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(len(evs))*float64(b.N)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}
