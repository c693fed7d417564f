// Package bench measures the backend beside its limits.
//
// It promises that
//   - a figure and its limit are made in one run by one process, turn by turn
//     (ours, limit, ours, limit, …), on the same servers and disk, with the same
//     data and as many callers: what slows one slows the other, and their ratio
//     holds where neither figure does;
//   - what is reported is the median of each, the ratio of the medians, and the
//     least and greatest ratio of a turn; nothing is left out as an outlier;
//   - what is off the clock (making the data, reading it back, emptying queues) is
//     off it for both sides;
//   - it works in databases, exchanges and folders of its own, with random names,
//     and takes them away when it ends, be it early;
//   - the data is the same every time: it is drawn from a fixed seed.
//
// Each work is one file, and its line in Works.
package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"
)

// DefaultPrefix begins the names of databases, exchanges and folders.
const DefaultPrefix = "bench"

// Bounds of Options.
const (
	// MaxRounds is the most turns of one work.
	MaxRounds = 1000
	// MaxFor is the longest that one side of a turn may be asked to take.
	MaxFor = time.Hour
)

// Work is something to measure.
type Work struct {
	// Name is what it is chosen by.
	Name string
	// Ours and Limit say exactly what is compared. Limit is empty where the target
	// is a number of its own.
	Ours, Limit string
	// Figures are what comes of a turn, at least one.
	Figures []Figure
	// Mongo and AMQP say which servers it needs.
	Mongo, AMQP bool
	// Long works take minutes and run only when they are asked for by name, or all
	// are.
	Long bool

	open func(ctx context.Context, s *site) (turn, error)
}

// Figure is one of a work's results.
type Figure struct {
	// Name tells it from the work's others; empty if there are none.
	Name string
	// Unit is "events/s", "messages/s" or "ms".
	Unit   string
	Target Target
}

// Target is what a figure should come to. The zero Target is none.
type Target struct {
	// Ratio is the least ratio to the limit.
	Ratio float64
	// AtLeast and AtMost are bounds of the figure itself.
	AtLeast, AtMost float64
}

func (t Target) String() string {
	switch {
	case t.Ratio > 0:
		return "≥ " + multiple(t.Ratio) + " of it"
	case t.AtLeast > 0:
		return "≥ " + figure(t.AtLeast)
	case t.AtMost > 0:
		return "≤ " + figure(t.AtMost)
	}
	return "none"
}

// turn measures both sides once and returns a Pair for each of the work's figures.
type turn func(ctx context.Context) ([]Pair, error)

// Pair is what a turn has measured, in the figure's unit. Limit is 0 where there is
// none.
type Pair struct {
	Ours  float64 `json:"ours"`
	Limit float64 `json:"limit,omitempty"`
}

// Options say what to measure and where. Rounds, For and Scale must be set.
type Options struct {
	// Names choose works; a name may be a pattern with * and ?. None are all that
	// are not long.
	Names []string
	// All takes the long works in.
	All bool
	// Mongo and AMQP are the servers' URIs. Works that need a server that is not
	// given are left out.
	Mongo, AMQP string
	// Folder is where the embedded stores are made, in a folder of their own.
	// Empty is the system's folder of temporary files.
	Folder string
	// Prefix begins the names of all that is made, before a random part;
	// DefaultPrefix if empty.
	Prefix string
	// Rounds is how many turns each work has, 1 to MaxRounds.
	Rounds int
	// For is about how long each side of a turn works, above 0 and up to MaxFor.
	// Where the amount of work is fixed, it takes what it takes.
	For time.Duration
	// Scale multiplies fixed amounts of work, such as the length of a log; 1 is
	// what the targets are meant for.
	Scale float64
	// Progress, if set, is told of each turn that is done, from 0 on.
	Progress func(work string, done, rounds int)
	// Logger takes what the backend under measurement says; nil is silence.
	Logger *slog.Logger
}

// Validate reports the first fault.
func (o Options) Validate() error {
	switch {
	case o.Rounds < 1 || o.Rounds > MaxRounds:
		return fmt.Errorf("rounds: %d, want 1 to %d", o.Rounds, MaxRounds)
	case o.For <= 0 || o.For > MaxFor:
		return fmt.Errorf("for: %v, want more than 0 and at most %v", o.For, MaxFor)
	case o.Scale <= 0 || o.Scale > 1:
		return fmt.Errorf("scale: %g, want more than 0 and at most 1", o.Scale)
	}
	for _, n := range o.Names {
		if !slices.ContainsFunc(Works(), func(w Work) bool { return matches(n, w.Name) }) {
			return fmt.Errorf("work %q: there is none of that name; there are %s", n, strings.Join(names(), ", "))
		}
	}
	return nil
}

func names() (all []string) {
	for _, w := range Works() {
		all = append(all, w.Name)
	}
	return all
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// Chosen are the works that the options ask for and can have, and those that lack a
// server.
func (o Options) Chosen() (run, lacking []Work) {
	for _, w := range Works() {
		wanted := !w.Long || o.All
		if len(o.Names) > 0 {
			wanted = slices.ContainsFunc(o.Names, func(n string) bool {
				return matches(n, w.Name) && (!w.Long || o.All || n == w.Name)
			})
		}
		switch {
		case !wanted:
		case w.Mongo && o.Mongo == "" || w.AMQP && o.AMQP == "":
			lacking = append(lacking, w)
		default:
			run = append(run, w)
		}
	}
	return run, lacking
}

// Run measures the works that the options choose, one after the other. After an
// error it returns what was measured before.
func Run(ctx context.Context, o Options) ([]Result, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	var results []Result
	works, _ := o.Chosen()
	for _, w := range works {
		r, err := w.measure(ctx, o)
		if err != nil {
			return results, fmt.Errorf("%s: %w", w.Name, err)
		}
		results = append(results, r...)
	}
	return results, nil
}

func (w Work) measure(ctx context.Context, o Options) (results []Result, err error) {
	s, err := openSite(ctx, w, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	o.Progress(w.Name, 0, o.Rounds)
	take, err := w.open(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	for _, f := range w.Figures {
		results = append(results, Result{Work: w.Name, Figure: f.Name, Unit: f.Unit, Target: f.Target.String(), target: f.Target})
	}
	for round := range o.Rounds {
		pairs, err := take(ctx)
		if err != nil {
			return nil, fmt.Errorf("turn %d: %w", round+1, err)
		}
		for i := range results {
			results[i].Turns = append(results[i].Turns, pairs[i])
		}
		o.Progress(w.Name, round+1, o.Rounds)
	}
	for i := range results {
		results[i].sum()
	}
	return results, nil
}
