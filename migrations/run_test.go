package migrations_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/events/servertest"
	"github.com/meet5/backend/migrations"
)

// databases are those of a new installation, dropped after the test.
func databases(t *testing.T) (dbs migrations.Databases, prefix string) {
	t.Helper()
	prefix = "migrations_" + uuid.NewString()[:8]
	dbs, err := migrations.Open(servertest.Client(t), prefix)
	if err != nil {
		t.Fatal(err)
	}
	for _, db := range []*mongo.Database{dbs.Log, dbs.User, dbs.Projections, dbs.Fraud, dbs.Activity} {
		servertest.Dropped(t, db)
	}
	return dbs, prefix
}

func runner(t *testing.T, dbs migrations.Databases, opt migrations.Options) *migrations.Runner {
	t.Helper()
	r, err := migrations.New(dbs, opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func versions(steps []migrations.Step) (out []uint64) {
	for _, s := range steps {
		out = append(out, s.Version)
	}
	return out
}

// counted makes n steps that count how often each was run.
func counted(n int) ([]migrations.Step, []atomic.Int32) {
	runs := make([]atomic.Int32, n)
	steps := make([]migrations.Step, n)
	for i := range steps {
		steps[i] = migrations.Step{Version: uint64(i + 1), Name: fmt.Sprintf("count %d", i+1), //nolint:gosec // small
			Up: func(context.Context, migrations.Databases) error { runs[i].Add(1); return nil }}
	}
	return steps, runs
}

func TestUpMakesTheLogsAndASecondUpDoesNothing(t *testing.T) {
	dbs, prefix := databases(t)
	r := runner(t, dbs, migrations.Options{})
	all := versions(migrations.Steps())

	logs := map[string]int{
		events.UserLog: events.UserPartitions, events.ActivityLog: events.ActivityPartitions, events.FraudLog: events.FraudPartitions,
	}
	for name, n := range logs {
		if err := mongolog.Open(dbs.Log, name, n).Check(t.Context()); !errors.Is(err, mongolog.ErrNotReady) {
			t.Errorf("log %s before: %v, want ErrNotReady", name, err)
		}
	}
	if plan, err := r.Plan(t.Context()); err != nil || !slices.Equal(versions(plan), all) {
		t.Fatalf("plan before: %v (%v), want every step", plan, err)
	}
	if ran, err := r.Up(t.Context()); err != nil || !slices.Equal(versions(ran), all) {
		t.Fatalf("first up ran %v (%v), want every step", ran, err)
	}
	if dbs.Log.Name() != prefix+"_log" {
		t.Errorf("the log's database is %s", dbs.Log.Name())
	}
	for name, n := range logs {
		if err := mongolog.Open(dbs.Log, name, n).Check(t.Context()); err != nil {
			t.Error(err)
		}
	}
	before, err := r.Status(t.Context())
	if err != nil || len(before) != len(all) {
		t.Fatalf("status: %v (%v)", before, err)
	}
	for _, s := range before {
		if s.AppliedAt.IsZero() || s.Unknown || s.Name == "" {
			t.Errorf("status after up: %+v", s)
		}
	}
	if plan, err := r.Plan(t.Context()); err != nil || len(plan) != 0 {
		t.Fatalf("plan after: %v (%v), want nothing", plan, err)
	}
	if ran, err := r.Up(t.Context()); err != nil || len(ran) != 0 {
		t.Fatalf("second up ran %v (%v), want nothing", ran, err)
	}
	if after, err := r.Status(t.Context()); err != nil || !slices.Equal(after, before) {
		t.Errorf("status moved from %v to %v (%v)", before, after, err)
	}
}

func TestRunsAtOnceRunEachStepOnceAndNeverInterleave(t *testing.T) {
	dbs, _ := databases(t)
	const runs, each = 4, 5
	steps, counts := counted(each)
	var inside, overlaps atomic.Int32
	for i := range steps {
		count := steps[i].Up
		steps[i].Up = func(ctx context.Context, d migrations.Databases) error {
			if inside.Add(1) > 1 {
				overlaps.Add(1)
			}
			defer inside.Add(-1)
			return count(ctx, d)
		}
	}
	var wg sync.WaitGroup
	var ran atomic.Int32
	begin := make(chan struct{})
	for range runs {
		r := runner(t, dbs, migrations.Options{Steps: steps})
		wg.Go(func() {
			<-begin
			done, err := r.Up(context.Background())
			if err != nil {
				t.Error(err)
			}
			ran.Add(int32(len(done))) //nolint:gosec // small
		})
	}
	close(begin)
	wg.Wait()
	for i := range counts {
		if n := counts[i].Load(); n != 1 {
			t.Errorf("step %d ran %d times", i+1, n)
		}
	}
	if ran.Load() != each || overlaps.Load() != 0 {
		t.Errorf("%d steps reported, %d overlaps; want %d and none", ran.Load(), overlaps.Load(), each)
	}
}

func TestAStepThatFailsIsNamedAndStopsTheRest(t *testing.T) {
	dbs, _ := databases(t)
	steps, counts := counted(4)
	count, broken := steps[2].Up, errors.New("disk full")
	steps[2].Up = func(context.Context, migrations.Databases) error { return broken }
	r := runner(t, dbs, migrations.Options{Steps: steps})
	ran, err := r.Up(t.Context())
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "step 3 (count 3)") {
		t.Errorf("%v, want the error with the step's name", err)
	}
	if !slices.Equal(versions(ran), []uint64{1, 2}) || counts[3].Load() != 0 {
		t.Errorf("ran %v and the last step %d times", ran, counts[3].Load())
	}
	if plan, err := r.Plan(t.Context()); err != nil || !slices.Equal(versions(plan), []uint64{3, 4}) {
		t.Errorf("plan %v (%v), want 3 and 4", plan, err)
	}
	// The lock is free again: a repaired build goes on at once.
	steps[2].Up = count
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r = runner(t, dbs, migrations.Options{Steps: steps, Logger: slog.New(waiting{seen: func(slog.Record) { cancel() }})})
	if ran, err := r.Up(ctx); err != nil || !slices.Equal(versions(ran), []uint64{3, 4}) {
		t.Errorf("then ran %v (%v), want 3 and 4", ran, err)
	}
	for i := range counts {
		if n := counts[i].Load(); n != 1 {
			t.Errorf("step %d ran %d times", i+1, n)
		}
	}
}

func TestStatusAndPlanOfAnotherBuildsSteps(t *testing.T) {
	dbs, _ := databases(t)
	steps, _ := counted(4)
	if _, err := runner(t, dbs, migrations.Options{Steps: []migrations.Step{steps[0], steps[1], steps[3]}}).Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	older := runner(t, dbs, migrations.Options{Steps: steps[:2]})
	status, err := older.Status(t.Context())
	if err != nil || len(status) != 3 || !status[2].Unknown || status[2].Version != 4 || status[2].Name != "count 4" || status[0].Unknown {
		t.Errorf("an older build's status: %+v (%v), want step 4 unknown", status, err)
	}
	if ran, err := older.Up(t.Context()); err != nil || len(ran) != 0 {
		t.Errorf("an older build ran %v (%v), want nothing", ran, err)
	}
	late := runner(t, dbs, migrations.Options{Steps: steps})
	for name, err := range map[string]error{
		"plan": func() error { _, err := late.Plan(t.Context()); return err }(),
		"up":   func() error { _, err := late.Up(t.Context()); return err }(),
	} {
		if err == nil || !strings.Contains(err.Error(), "step 3 (count 3) has not run but the later step 4 has") {
			t.Errorf("%s with a step below one that ran: %v", name, err)
		}
	}
}

func TestPlanAndStatusWriteNothing(t *testing.T) {
	dbs, prefix := databases(t)
	r := runner(t, dbs, migrations.Options{})
	if _, err := r.Plan(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	names, err := dbs.Log.Client().ListDatabaseNames(t.Context(), map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasPrefix(n, prefix) {
			t.Errorf("database %s is there", n)
		}
	}
}

// waiting is a slog.Handler that calls seen when a run waits for the lock.
type waiting struct {
	slog.Handler
	seen func(slog.Record)
}

func (w waiting) Enabled(context.Context, slog.Level) bool { return true }

func (w waiting) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "waiting") {
		w.seen(r)
	}
	return nil
}

// killedPrefix tells a copy of this test program to be the run that is killed.
const killedPrefix = "MEET5_TEST_KILLED_PREFIX"

func TestALockOfAKilledRunIsFreeAfterItsLease(t *testing.T) {
	if prefix := os.Getenv(killedPrefix); prefix != "" {
		stayInAStep(t, prefix)
		return
	}
	dbs, prefix := databases(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self, "-test.run=^TestALockOfAKilledRunIsFreeAfterItsLease$") //nolint:gosec // this program
	child.Env = append(os.Environ(), killedPrefix+"="+prefix)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); ; {
		if !lines.Scan() {
			t.Fatal("the run that was to be killed ended by itself")
		}
		if lines.Text() == insideStep {
			break
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()

	steps, counts := counted(3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	early := runner(t, dbs, migrations.Options{Steps: steps, Logger: slog.New(waiting{seen: func(slog.Record) { cancel() }})})
	_, err = early.Up(ctx)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), fmt.Sprintf("/%d/", child.Process.Pid)) {
		t.Fatalf("before the lease has ended: %v, want to wait for the process that was killed", err)
	}
	if counts[0].Load()+counts[1].Load()+counts[2].Load() != 0 {
		t.Fatal("a step ran while the lock was held")
	}

	later := runner(t, dbs, migrations.Options{Steps: steps, Clock: func() time.Time { return time.Now().Add(migrations.Lease) }})
	if ran, err := later.Up(t.Context()); err != nil || !slices.Equal(versions(ran), []uint64{2, 3}) {
		t.Fatalf("after the lease: ran %v (%v), want the step that was cut short and the next", ran, err)
	}
}

const insideStep = "inside step 2"

// stayInAStep runs step 1 and stays in step 2 until the process is killed.
func stayInAStep(t *testing.T, prefix string) {
	dbs, err := migrations.Open(servertest.Client(t), prefix)
	if err != nil {
		t.Fatal(err)
	}
	steps, _ := counted(2)
	steps[1].Up = func(ctx context.Context, _ migrations.Databases) error {
		fmt.Println(insideStep)
		<-ctx.Done()
		return ctx.Err()
	}
	_, err = runner(t, dbs, migrations.Options{Steps: steps}).Up(t.Context())
	t.Fatal("the run ended: ", err)
}

func TestARunThatLostItsLockRecordsNothing(t *testing.T) {
	dbs, _ := databases(t)
	steps, counts := counted(2)
	second, _ := counted(2)
	count := steps[0].Up
	steps[0].Up = func(ctx context.Context, d migrations.Databases) error {
		// The first run stalls for a lease's length, and another one takes over.
		later := func() time.Time { return time.Now().Add(migrations.Lease) }
		ran, err := runner(t, dbs, migrations.Options{Steps: second, Clock: later}).Up(ctx)
		if err != nil || len(ran) != 2 {
			t.Errorf("the run that took over ran %v (%v)", ran, err)
		}
		return count(ctx, d)
	}
	ran, err := runner(t, dbs, migrations.Options{Steps: steps}).Up(t.Context())
	if err == nil || len(ran) != 0 || !strings.Contains(err.Error(), "step 1 (count 1): the lock was lost") {
		t.Errorf("ran %v: %v, want to be told that the lock was lost", ran, err)
	}
	if counts[1].Load() != 0 {
		t.Error("the next step ran without the lock")
	}
	records, err := dbs.Log.Collection("migrations").CountDocuments(t.Context(), map[string]any{})
	if err != nil || records != 2 {
		t.Errorf("%d records (%v), want the 2 of the run that took over", records, err)
	}
}
