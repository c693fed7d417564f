package backtest

import (
	"iter"
	"maps"
	"slices"

	"github.com/google/uuid"
)

// tally counts users by what is known of them.
type tally [Bad + 1]int

func (t *tally) add(v Verdict) { t[v]++ }

func (t *tally) merge(other tally) {
	for v, n := range other {
		t[v] += n
	}
}

func (t tally) users() int { return t[Unknown] + t[Good] + t[Bad] }

// precision is the share of the bad among those of whom it is known.
func (t tally) precision() *float64 { return ratio(t[Bad], t[Bad]+t[Good]) }

// recall is the share of all bad users that are in it.
func (t tally) recall(all tally) *float64 { return ratio(t[Bad], all[Bad]) }

func ratio(n, of int) *float64 {
	if of == 0 {
		return nil
	}
	r := float64(n) / float64(of)
	return &r
}

// Measure sets the users that were hit against what is known of users. It is about
// those who did something within the period, and those hit.
type Measure struct {
	// Against is what it was measured against.
	Against Against `json:"against"`
	// Bad, Good and Unknown are how many users there are of each kind, and the
	// others those of them that were hit.
	Bad        int `json:"bad"`
	Good       int `json:"good"`
	Unknown    int `json:"unknown"`
	HitBad     int `json:"hit_bad"`
	HitGood    int `json:"hit_good"`
	HitUnknown int `json:"hit_unknown"`
	// Precision is HitBad of HitBad and HitGood, Recall is HitBad of Bad: each
	// from 0 to 1, and null where it would be a division by zero.
	Precision *float64 `json:"precision"`
	Recall    *float64 `json:"recall"`
}

// verdict is what is known of a user.
func (b *backtest) verdict(user uuid.UUID) Verdict {
	if b.known == nil {
		return Unknown
	}
	return b.known.of(user)
}

// count counts users by what is known of them.
func (b *backtest) count(users iter.Seq[uuid.UUID]) (t tally) {
	for user := range users {
		t.add(b.verdict(user))
	}
	return t
}

func (b *backtest) measure(hit, all tally) *Measure {
	return &Measure{
		Against: b.known.against,
		Bad:     all[Bad], Good: all[Good], Unknown: all[Unknown],
		HitBad: hit[Bad], HitGood: hit[Good], HitUnknown: hit[Unknown],
		Precision: hit.precision(), Recall: hit.recall(all),
	}
}

// Quality tells how well a score separates bad users from good ones, whatever the
// threshold. Both are null if either kind is missing.
type Quality struct {
	// AUC is the area under the ROC curve: 0.5 for a guess, 1 if every bad user
	// scores higher than every good one. It is the sum of the trapezoids between
	// (0, 0), the thresholds' (share of the good hit, share of the bad hit) and
	// (1, 1). Between two thresholds, and below the lowest, nothing is known, so
	// that with few thresholds it is coarse.
	AUC *float64 `json:"auc,omitempty"`
	// AveragePrecision is the sum, from the highest threshold down, of each one's
	// precision times what it adds to recall. What no threshold reaches adds
	// nothing.
	AveragePrecision *float64 `json:"average_precision,omitempty"`
}

// quality is that of the users reached by each of a list of ever lower thresholds.
func quality(steps []tally, all tally) Quality {
	if all[Bad] == 0 || all[Good] == 0 {
		return Quality{}
	}
	var auc, average, x, y float64
	to := func(nextX, nextY float64) {
		auc += (nextX - x) * (y + nextY) / 2
		x, y = nextX, nextY
	}
	for _, t := range steps {
		recall := *t.recall(all)
		if p := t.precision(); p != nil {
			average += *p * (recall - y)
		}
		to(float64(t[Good])/float64(all[Good]), recall)
	}
	to(1, 1)
	return Quality{AUC: &auc, AveragePrecision: &average}
}

// Together is what all rules find together.
type Together struct {
	// Users were hit by any of them.
	Users    int      `json:"users"`
	Measured *Measure `json:"measured,omitempty"`
	// Highest takes the highest score of the rules that hit a user for the user's
	// score, Sum their sum. They are set if a curve was asked for.
	Highest *Scores `json:"highest_score,omitempty"`
	Sum     *Scores `json:"sum_of_scores,omitempty"`
}

// Scores is how well users' scores do.
type Scores struct {
	// Points are by ascending score, at most MaxScores of them.
	Points []Score `json:"points"`
	Quality
}

// MaxScores is how many scores a report lists of rules together. If users have
// more different ones, evenly chosen ones are listed; all count.
const MaxScores = 101

// Score is the users whose score is at least so high.
type Score struct {
	Score     int      `json:"score"`
	Users     int      `json:"users"`
	Precision *float64 `json:"precision,omitempty"`
	Recall    *float64 `json:"recall,omitempty"`
}

// together is what the rules find together, given the users that each has hit.
func (b *backtest) together(hit []map[uuid.UUID]struct{}, all tally) Together {
	highest, sum := make(map[uuid.UUID]int), make(map[uuid.UUID]int)
	for i, users := range hit {
		score := b.rules[i].Score
		for user := range users {
			highest[user] = max(highest[user], score)
			sum[user] += score
		}
	}
	t := Together{Users: len(sum)}
	if b.known != nil {
		t.Measured = b.measure(b.count(maps.Keys(sum)), all)
	}
	if b.Curve {
		t.Highest, t.Sum = b.scores(highest, all), b.scores(sum, all)
	}
	return t
}

func (b *backtest) scores(of map[uuid.UUID]int, all tally) *Scores {
	with := make(map[int]tally)
	for user, score := range of {
		t := with[score]
		t.add(b.verdict(user))
		with[score] = t
	}
	s := &Scores{Points: []Score{}}
	var reached tally
	var steps []tally
	for _, score := range slices.Backward(slices.Sorted(maps.Keys(with))) {
		reached.merge(with[score])
		steps = append(steps, reached)
		one := Score{Score: score, Users: reached.users()}
		if b.known != nil {
			one.Precision, one.Recall = reached.precision(), reached.recall(all)
		}
		s.Points = append(s.Points, one)
	}
	slices.Reverse(s.Points)
	if n := len(s.Points); n > MaxScores {
		for i := range MaxScores {
			s.Points[i] = s.Points[i*(n-1)/(MaxScores-1)]
		}
		s.Points = s.Points[:MaxScores]
	}
	if b.known != nil {
		s.Quality = quality(steps, all)
	}
	return s
}
