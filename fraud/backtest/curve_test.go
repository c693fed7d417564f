package backtest_test

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/backtest"
	"github.com/meet5/backend/fraud/labels"
	"github.com/meet5/backend/fraud/rule"
)

// labelled are labels of these users.
func labelled(users ...uuid.UUID) (known []labels.Label) {
	for _, u := range users {
		known = append(known, labels.Label{User: u, At: start, Label: "bad"})
	}
	return known
}

// byPairs is the area under the ROC curve as the share of pairs of a bad and a good
// user of whom the bad one scores higher, ties counting half (Mann and Whitney).
func byPairs(scores map[uuid.UUID]int, bad map[uuid.UUID]bool) float64 {
	var won, pairs float64
	for b, high := range scores {
		for g, low := range scores {
			if !bad[b] || bad[g] {
				continue
			}
			pairs++
			switch {
			case high > low:
				won++
			case high == low:
				won += 0.5
			}
		}
	}
	return won / pairs
}

// averagePrecision is the mean, over the bad users, of the precision among all who
// score at least as high; those with no score add nothing.
func averagePrecision(scores map[uuid.UUID]int, bad map[uuid.UUID]bool) float64 {
	var sum float64
	for b := range bad {
		if scores[b] == 0 {
			continue
		}
		hit, found := 0, 0
		for u, s := range scores {
			if s >= scores[b] {
				hit++
				if bad[u] {
					found++
				}
			}
		}
		sum += float64(found) / float64(hit)
	}
	return sum / float64(len(bad))
}

// hitBy are the users that each rule hits, tried alone.
func hitBy(t testing.TB, l log.Reader, r rule.Rule) map[uuid.UUID]bool {
	t.Helper()
	report, err := backtest.Run(t.Context(), l, []rule.Rule{r}, backtest.Options{Sample: backtest.MaxSample})
	if err != nil {
		t.Fatal(err)
	}
	users := make(map[uuid.UUID]bool)
	for _, s := range report.Rules[0].Sample {
		users[s.User] = true
	}
	if len(users) != report.Rules[0].Users {
		t.Fatalf("%d users of %d are listed", len(users), report.Rules[0].Users)
	}
	return users
}

func near(got *float64, want float64) bool { return got != nil && math.Abs(*got-want) < 1e-9 }

func TestACurveSaysWhatEachThresholdByItselfDoes(t *testing.T) {
	l := newLog(t)
	fill(t, l, history(4000))
	bad := make(map[uuid.UUID]bool)
	var known []uuid.UUID
	for n := range 100 {
		if n%7 < 2 {
			bad[user(n)] = true
			known = append(known, user(n))
		}
	}
	thresholds := []int{1, 2, 3, 5, 6, 8, 12, 40}
	report := run(t, l, backtest.Options{Curve: true, Thresholds: thresholds, Labels: each(labelled(known...))})
	highest, sum := make(map[uuid.UUID]int), make(map[uuid.UUID]int)
	for n := range 100 {
		highest[user(n)], sum[user(n)] = 0, 0
	}
	scored := slices.Clone(rules)
	for i := range scored {
		scored[i].Score = 10 * (i + 1)
	}
	for i, r := range rules {
		c := report.Rules[i].Curve
		if c == nil || len(c.Points) != len(thresholds) {
			t.Fatalf("%s: %+v", r.ID, c)
		}
		rungs := make(map[uuid.UUID]int)
		for n := range 100 {
			rungs[user(n)] = 0
		}
		for n, threshold := range thresholds {
			r.Threshold = threshold
			users := hitBy(t, l, r)
			found := 0
			for u := range users {
				rungs[u] = n + 1
				if bad[u] {
					found++
				}
			}
			p := c.Points[n]
			if p.Threshold != threshold || p.Users != len(users) || !near(p.Recall, float64(found)/float64(len(bad))) ||
				(p.Precision == nil) != (len(users) == 0) || len(users) > 0 && !near(p.Precision, float64(found)/float64(len(users))) {
				t.Errorf("%s at %d: %+v, want %d users, %d of them bad", r.ID, threshold, p, len(users), found)
			}
		}
		if !near(c.AUC, byPairs(rungs, bad)) || !near(c.AveragePrecision, averagePrecision(rungs, bad)) {
			t.Errorf("%s: AUC %v, average precision %v; want %v, %v", r.ID, *c.AUC, *c.AveragePrecision, byPairs(rungs, bad), averagePrecision(rungs, bad))
		}
		for u := range hitBy(t, l, rules[i]) {
			highest[u] = max(highest[u], scored[i].Score)
			sum[u] += scored[i].Score
		}
	}

	report, err := backtest.Run(t.Context(), l, scored, backtest.Options{Curve: true, Thresholds: thresholds, Labels: each(labelled(known...))})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		got  *backtest.Scores
		want map[uuid.UUID]int
	}{"the highest score": {report.Together.Highest, highest}, "the sum": {report.Together.Sum, sum}} {
		if !near(c.got.AUC, byPairs(c.want, bad)) || !near(c.got.AveragePrecision, averagePrecision(c.want, bad)) {
			t.Errorf("%s: AUC %v, average precision %v; want %v, %v", name, *c.got.AUC, *c.got.AveragePrecision, byPairs(c.want, bad), averagePrecision(c.want, bad))
		}
		for _, p := range c.got.Points {
			users := 0
			for _, s := range c.want {
				if s >= p.Score {
					users++
				}
			}
			if users != p.Users {
				t.Errorf("%s: %d users with %d, want %d", name, p.Users, p.Score, users)
			}
		}
	}
}

func TestACurveChangesNothingElse(t *testing.T) {
	l := newLog(t)
	fill(t, l, history(2000))
	o := backtest.Options{Labels: each(labelled(user(1), user(2)))}
	plain := run(t, l, o)
	o.Curve = true
	curved := run(t, l, o)
	for i := range curved.Rules {
		curved.Rules[i].Curve = nil
	}
	curved.Together.Highest, curved.Together.Sum = nil, nil
	want, err := json.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(curved)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestALadderIsWithinItsBoundsAndHoldsTheRulesOwnThreshold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		own := rapid.IntRange(1, rule.MaxThreshold).Draw(t, "own")
		ladder := backtest.Ladder(own)
		if err := backtest.CheckThresholds(ladder); err != nil || !slices.Contains(ladder, own) ||
			ladder[0] != 1 || ladder[len(ladder)-1] != rule.MaxThreshold || len(ladder) < 25 {
			t.Fatalf("%v: %v", ladder, err)
		}
	})
	for _, bad := range [][]int{{0}, {rule.MaxThreshold + 1}, {3, 3}, {5, 4}, make([]int, backtest.MaxThresholds+1)} {
		if err := backtest.CheckThresholds(bad); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

func TestWithoutBadUsersOrGoodOnesThereIsNoArea(t *testing.T) {
	l := newLog(t)
	fill(t, l, history(1000))
	var all []uuid.UUID
	for n := range 100 {
		all = append(all, user(n))
	}
	for name, o := range map[string]backtest.Options{
		"no bad ones":          {Labels: each(labelled(user(1000)))},
		"no good ones":         {Labels: each(labelled(all...))},
		"nothing is known":     {},
		"nothing is asked for": {Against: backtest.None, Labels: each(labelled(user(1)))},
	} {
		o.Curve = true
		if c := run(t, l, o).Rules[0].Curve; c == nil || c.AUC != nil || c.AveragePrecision != nil || c.Points[0].Users == 0 {
			t.Errorf("%s: %+v", name, c)
		}
	}
}
