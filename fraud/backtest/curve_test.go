package backtest_test

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
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

// hitBy are the users that each of the rules hits, tried without a curve.
func hitBy(t testing.TB, l log.Reader, since, until time.Time, rules ...rule.Rule) []map[uuid.UUID]bool {
	t.Helper()
	for i := range rules {
		rules[i].ID = "hit-by-" + strconv.Itoa(i)
	}
	report, err := backtest.Run(t.Context(), l, rules, backtest.Options{Since: since, Until: until, Sample: 100}) // all users
	if err != nil {
		t.Fatal(err)
	}
	all := make([]map[uuid.UUID]bool, len(rules))
	for i, r := range report.Rules {
		all[i] = make(map[uuid.UUID]bool)
		for _, s := range r.Sample {
			all[i][s.User] = true
		}
		if len(all[i]) != r.Users {
			t.Fatalf("%d users of %d are listed", len(all[i]), r.Users)
		}
	}
	return all
}

func near(got *float64, want float64) bool { return got != nil && math.Abs(*got-want) < 1e-9 }

func TestACurveSaysWhatEachThresholdByItselfDoes(t *testing.T) {
	l := newLog(t)
	evs := history(4000)
	fill(t, l, evs)
	t.Run("all of history", func(t *testing.T) { checkCurves(t, l, evs, time.Time{}, time.Time{}) })
	// Some come up to a threshold before the period, and to a higher one within.
	t.Run("a period", func(t *testing.T) { checkCurves(t, l, evs, evs[1500].OccurredAt, evs[2500].OccurredAt) })
}

func checkCurves(t *testing.T, l log.Reader, evs []events.Event, since, until time.Time) {
	thresholds := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 18, 20, 30, 40} // three passes
	all, bad := make(map[uuid.UUID]bool), make(map[uuid.UUID]bool)
	for _, e := range evs {
		if !e.OccurredAt.Before(since) && (until.IsZero() || e.OccurredAt.Before(until)) {
			all[e.Stream] = true
		}
	}
	var known []uuid.UUID
	for n := range 100 {
		if n%7 < 2 && all[user(n)] {
			bad[user(n)] = true
			known = append(known, user(n))
		}
	}
	either := aRule("either", 3, rule.Window{Sliding: rule.Duration(3 * time.Hour)}, rule.PairedDistinct)
	either.Reading = rule.Each
	scored := append(slices.Clone(rules), either)
	tried := slices.Clone(scored)
	for i := range scored {
		scored[i].Score = 10 * (i + 1)
	}
	report, err := backtest.Run(t.Context(), l, scored, backtest.Options{
		Since: since, Until: until, Curve: true, Thresholds: thresholds, Labels: each(labelled(known...)),
	})
	if err != nil {
		t.Fatal(err)
	}
	none := make(map[uuid.UUID]int)
	for u := range all {
		none[u] = 0
	}
	highest, sum := maps.Clone(none), maps.Clone(none)
	for i, r := range tried {
		c := report.Rules[i].Curve
		if c == nil || len(c.Points) != len(thresholds) {
			t.Fatalf("%s: %+v", r.ID, c)
		}
		rungs, hits := maps.Clone(none), 0
		variants := slices.Repeat([]rule.Rule{r}, len(thresholds))
		for n, threshold := range thresholds {
			variants[n].Threshold = threshold
		}
		for n, users := range hitBy(t, l, since, until, variants...) {
			for u := range users {
				rungs[u] = n + 1
				hits++
			}
		}
		for n, p := range c.Points {
			hit, found := 0, 0
			for u, rung := range rungs {
				if rung > n {
					hit++
					if bad[u] {
						found++
					}
				}
			}
			if p.Threshold != thresholds[n] || p.Users != hit || !near(p.Recall, float64(found)/float64(len(bad))) ||
				(p.Precision == nil) != (hit == 0) || hit > 0 && !near(p.Precision, float64(found)/float64(hit)) {
				t.Errorf("%s at %d: %+v, want %d users, %d of them bad", r.ID, thresholds[n], p, hit, found)
			}
		}
		if hits == 0 {
			t.Errorf("%s hits nobody: the test is too easy", r.ID)
		}
		checkQuality(t, r.ID, c.Quality, rungs, bad)
		for u := range hitBy(t, l, since, until, r)[0] {
			highest[u] = max(highest[u], scored[i].Score)
			sum[u] += scored[i].Score
		}
	}
	checkScores(t, "the highest score", report.Together.Highest, highest, bad)
	checkScores(t, "the sum", report.Together.Sum, sum, bad)
}

func checkScores(t *testing.T, what string, got *backtest.Scores, want map[uuid.UUID]int, bad map[uuid.UUID]bool) {
	t.Helper()
	checkQuality(t, what, got.Quality, want, bad)
	for _, p := range got.Points {
		users := 0
		for _, s := range want {
			if s >= p.Score {
				users++
			}
		}
		if users != p.Users {
			t.Errorf("%s: %d users with %d, want %d", what, p.Users, p.Score, users)
		}
	}
}

func checkQuality(t *testing.T, what string, got backtest.Quality, scores map[uuid.UUID]int, bad map[uuid.UUID]bool) {
	t.Helper()
	if auc, average := byPairs(scores, bad), averagePrecision(scores, bad); !near(got.AUC, auc) || !near(got.AveragePrecision, average) {
		t.Errorf("%s: AUC %v, average precision %v; want %v, %v", what, *got.AUC, *got.AveragePrecision, auc, average)
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

// With a low threshold "both" forgets whom the user visited first, before they are
// liked; with a higher one it does not. A pass for high thresholds must not pass
// over who has come up to no lower one.
func TestAUserWhoComesUpToAHigherThresholdOnlyIsOnTheCurve(t *testing.T) {
	const visits, liked = 600, 20 // 64 are remembered for each of the threshold
	var evs []events.Event
	for n := range visits + liked {
		e := events.Event{
			ID: uuid.NewSHA1(uuid.UUID{5}, []byte{byte(n), byte(n >> 8)}), Type: events.ProfileVisited, Stream: user(1),
			OccurredAt: start.Add(time.Duration(n) * time.Second),
			Data:       events.Activity{Target: user(2000 + n%visits), JoinedAt: start, Trusted: true}.AppendJSON(nil),
		}
		if n >= visits {
			e.Type = events.ProfileLiked
		}
		evs = append(evs, e)
	}
	l := newLog(t)
	fill(t, l, evs)
	r := aRule("both", 10, rule.Window{Sliding: rule.Duration(time.Hour)}, rule.PairedDistinct)
	report, err := backtest.Run(t.Context(), l, []rule.Rule{r}, backtest.Options{Curve: true, Thresholds: []int{1, 2, 3, 4, 5, 6, 7, 8, 10, 20, 30}})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Rules[0].Curve.Points {
		users, hits := 1, uint64(0)
		if p.Threshold > 20 {
			users = 0
		}
		if p.Threshold == 10 || p.Threshold == 20 {
			hits = 1
		}
		if p.Users != users || p.Hits != hits {
			t.Errorf("at %d: %d users, %d hits, want %d and %d", p.Threshold, p.Users, p.Hits, users, hits)
		}
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
