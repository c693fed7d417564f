// Package chaos ill-treats a real backend and proves that its promises hold all
// the same.
//
// It starts a broker and a database of its own, two instances of each service as
// processes before them, and puts proxies in between. Clients then visit, like,
// register and change their profiles through both gateways, and in the middle of
// it one fault happens: something is killed, made to stand still, cut off, slowed
// down or emptied. Once that has healed, chaos measures how long it takes until
// everything is fresh again, ends the load, and checks:
//   - every answer and every delivery, by package history, against the logs: what
//     was acknowledged is there once, where it was said to be and in order, and
//     what was refused is not;
//   - every handle and every version of a profile went to one of those who raced
//     for it;
//   - the read models are what the log folds to;
//   - the logs themselves, by package verify;
//   - no answer was an error of the server's other than 503 with Retry-After, and
//     no process ended that nobody had killed.
//
// Checks read the logs and the read models past the proxies.
//
// The clock of a process cannot be set without setting the machine's. Where clocks
// are the fault, a third instance of the activity service runs within this process,
// behind the same gateways, on a clock that can be set.
//
// It promises to leave nothing behind: every process and both services are ended
// on every way out, also when the context ends. It ends what it has started and
// nothing else.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/meet5/backend/cmd/history"
)

// Defaults and bounds of Options.
const (
	// DefaultLoad is how long clients are at it in a run, the fault itself not
	// counted.
	DefaultLoad = 20 * time.Second
	// DefaultPause is how long something stands still, is slow or half-open.
	DefaultPause = 10 * time.Second
	// DefaultOutage is how long the broker is gone in broker-outage.
	DefaultOutage = 30 * time.Second
	// DefaultPatience is how long a house may take to be fresh again, and how long
	// clients send again what was not answered.
	DefaultPatience = 3 * time.Minute
	// DefaultPace is the mean pause of a client between two requests: about half
	// of what two cores take.
	DefaultPace = 150 * time.Millisecond
	// MaxSeeds bounds the runs of one fault.
	MaxSeeds = 1000
)

// Options of a matrix of faults. Bin and Script are needed.
type Options struct {
	// Faults are the names of the faults; all of them if empty.
	Faults []string
	// Seeds is how many runs each fault has, 1 to MaxSeeds; 0 is 1. Seed is the
	// first run's: the load, the moment and the victims follow from it.
	Seeds int
	Seed  uint64
	// Load, Pause and Outage are DefaultLoad, DefaultPause and DefaultOutage if 0.
	Load, Pause, Outage time.Duration
	// Pace is DefaultPace if 0.
	Pace time.Duration
	// Patience is DefaultPatience if 0.
	Patience time.Duration
	// Bin is the folder of the services' programs.
	Bin string
	// Script starts and ill-treats real services: deploy/testing/services.
	Script string
	// OneHouse runs all faults in the same house, which is quicker and tells less
	// well what did the harm.
	OneHouse bool
	// Progress is told what is being done, if set.
	Progress func(text string)
}

func (o *Options) complete() ([]fault, error) {
	for value, unset := range map[*time.Duration]time.Duration{
		&o.Load: DefaultLoad, &o.Pause: DefaultPause, &o.Outage: DefaultOutage, &o.Pace: DefaultPace, &o.Patience: DefaultPatience,
	} {
		if *value == 0 {
			*value = unset
		}
	}
	if o.Seeds == 0 {
		o.Seeds = 1
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	var bad []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"load", o.Load}, {"pause", o.Pause}, {"outage", o.Outage}, {"pace", o.Pace}, {"patience", o.Patience}} {
		if d.value < 0 {
			bad = append(bad, fmt.Errorf("%s: %v is negative", d.name, d.value))
		}
	}
	if o.Seeds < 1 || o.Seeds > MaxSeeds {
		bad = append(bad, fmt.Errorf("seeds: %d, want 1 to %d", o.Seeds, MaxSeeds))
	}
	if o.Bin == "" {
		bad = append(bad, errors.New("bin: name the folder of the services' programs, as make build fills bin"))
	}
	if o.Script == "" {
		bad = append(bad, errors.New("services: name the script that starts real services, deploy/testing/services"))
	}
	if o.Bin != "" {
		for _, name := range serviceNames() {
			if _, err := os.Stat(filepath.Join(o.Bin, name)); err != nil {
				bad = append(bad, fmt.Errorf("bin: %w; make build fills bin with the services' programs", err))
				break
			}
		}
	}
	chosen := faults()
	if len(o.Faults) > 0 {
		known := chosen
		chosen = nil
		for _, name := range o.Faults {
			i := slices.IndexFunc(known, func(f fault) bool { return f.name == name })
			if i < 0 {
				bad = append(bad, fmt.Errorf("fault: there is no %q; --list lists them", name))
				continue
			}
			chosen = append(chosen, known[i])
		}
	}
	return chosen, errors.Join(bad...)
}

// Validate reports every fault of the options.
func (o Options) Validate() error {
	_, err := o.complete()
	return err
}

// Fault describes one for people.
type Fault struct {
	Name string `json:"name"`
	What string `json:"what"`
}

// Faults lists what can be done to a house, by name.
func Faults() []Fault {
	var out []Fault
	for _, f := range faults() {
		out = append(out, Fault{Name: f.name, What: f.what})
	}
	return out
}

// Run does to a house what the options say, and calls finished after each run,
// which may be nil. A broken promise is no error: it is in the run's Violations.
// After one, the house is given up and the next run has a new one. The error is
// ErrNoServices, or says what kept the matrix from being run to its end; the
// report holds what was run until then.
func Run(ctx context.Context, o Options, finished func(Result)) (report Report, err error) {
	chosen, err := o.complete()
	if err != nil {
		return report, err
	}
	if finished == nil {
		finished = func(Result) {}
	}
	ownWriter := func(f fault) bool { return f.ownWriter }
	groups := [][]fault{chosen}
	if !o.OneHouse {
		groups = slices.Collect(slices.Chunk(chosen, 1))
	}
	for _, group := range groups {
		if err := runIn(ctx, &o, group, slices.ContainsFunc(group, ownWriter), func(r Result) {
			report.add(r)
			finished(r)
		}); err != nil {
			return report, err
		}
	}
	return report, nil
}

// runIn runs faults in one house, or in a new one after each that was broken.
func runIn(ctx context.Context, o *Options, group []fault, ownWriter bool, finished func(Result)) (err error) {
	var h *house
	leave := func() {
		if h != nil {
			err = errors.Join(err, h.close())
			h = nil
		}
	}
	defer leave()
	for _, f := range group {
		for i := range o.Seeds {
			if h == nil {
				o.Progress(f.name + ": opening a house")
				opened, err := open(ctx, o, ownWriter)
				if ctx.Err() != nil && err != nil {
					return ctx.Err()
				}
				if err != nil {
					return fmt.Errorf("%s: open a house: %w", f.name, err)
				}
				h = opened
			}
			r, err := h.run(ctx, f, o.Seed+uint64(i)) //nolint:gosec // a small number
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return fmt.Errorf("%s, seed %d: %w\n%s", f.name, o.Seed+uint64(i), err, h.tails()) //nolint:gosec // a small number
			}
			finished(r)
			if len(r.Violations) > 0 {
				leave()
			}
		}
	}
	return nil
}

// Violations that this package finds itself.
const (
	// Answered: an answer that no client should ever get, such as a 500.
	Answered history.Rule = "answer"
	// Crashed: a process ended that nobody had killed.
	Crashed history.Rule = "crash"
	// Stuck: what should come back by itself did not, in time.
	Stuck history.Rule = "stuck"
	// Parked: a subscription put an event aside, and none was poisonous.
	Parked history.Rule = "parked"
	// Verified: what package verify finds in a log.
	Verified history.Rule = "verify"
)
