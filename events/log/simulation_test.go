package log_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// How many schedules a test run plays. Under the race detector a schedule takes
// about ten times as long and the same seeds play the same schedules, so that
// few are enough to show it the code; -short is for a glance.
const (
	ordinarySchedules = 100_000
	raceSchedules     = 5_000
	shortSchedules    = 2_000
)

var (
	schedulesFlag = flag.Int("log.schedules", 0, "how many schedules of the append protocol to simulate, 0 for the usual number")
	seedFlag      = flag.Uint64("log.seed", 1, "the first schedule's seed; the next ones count up")
)

func schedules() int {
	switch {
	case *schedulesFlag > 0:
		return *schedulesFlag
	case testing.Short():
		return shortSchedules
	case underRace:
		return raceSchedules
	}
	return ordinarySchedules
}

// Every schedule is a seed: some processes append to one store at once, and what
// becomes of each call to it is drawn. Nine of ten play by what a store promises:
// reads show what a majority has. The tenth breaks it: reads may be stale, as
// from a secondary. Then a conflict may be untrue, and everything else holds.
func TestThePromisesHoldInEverySimulatedSchedule(t *testing.T) {
	total, first := schedules(), *seedFlag
	var next, failed atomic.Uint64
	for range runtime.GOMAXPROCS(0) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for failed.Load() == 0 {
				n := next.Add(1) - 1
				if n >= uint64(total) { //nolint:gosec // positive
					return
				}
				if err := play(t, first+n, nil); err != nil {
					failed.Add(1)
					explain(t, first+n)
				}
			}
		})
	}
}

// play simulates one seed in a bubble of its own.
func play(t *testing.T, seed uint64, trace io.Writer) (err error) {
	synctest.Test(t, func(*testing.T) { err = simulate(seed, seed%10 == 0, trace) })
	return err
}

func explain(t *testing.T, seed uint64) {
	var trace bytes.Buffer
	err := play(t, seed, &trace)
	t.Errorf("seed %d: %v\nplay it again with\n\tgo test ./log -run TestThePromisesHoldInEverySimulatedSchedule -log.seed=%d -log.schedules=1\n%s", seed, err, seed, &trace)
}

func TestASeedPlaysTheSameScheduleEveryTime(t *testing.T) {
	for seed := range uint64(50) {
		var first, second bytes.Buffer
		if err := fmt.Sprint(play(t, seed, &first)); err != fmt.Sprint(play(t, seed, &second)) {
			t.Fatalf("seed %d ends otherwise the second time", seed)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Fatalf("seed %d:\n%s\nand the second time\n%s", seed, &first, &second)
		}
	}
}
