package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/fraud/queue"
	"github.com/meet5/backend/fraud/rule"
)

// waitLimit ends a test whose condition never comes true.
const waitLimit = 30 * time.Second

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a fraud log in a file, and a clock that stands still until told
// otherwise.
type world struct {
	*testing.T
	log *log.Log

	mu  sync.Mutex
	now time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := db.Log(events.FraudLog, events.FraudPartitions)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, now: start}
	w.log = log.New(store, log.Options{Clock: w.clock})
	t.Cleanup(func() {
		w.log.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// instance is one that works on backtests.
type instance struct {
	*world
	id       uuid.UUID
	register *queue.Register
	worker   *queue.Worker
	stop     func()

	mu   sync.Mutex
	read uint64 // up to where the register is

	// began is told of each backtest that it begins; it goes on once it is told
	// how, or its context ends.
	began chan uuid.UUID
	goOn  chan error
}

// start starts an instance.
func (w *world) start(n byte) *instance {
	w.Helper()
	i := w.instance(n)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- i.worker.Run(ctx) }()
	i.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("run: %v", err)
		}
	})
	w.Cleanup(i.stop)
	return i
}

// instance makes one that does not run.
func (w *world) instance(n byte) *instance {
	i := &instance{world: w, id: uuid.UUID{n}, register: queue.NewRegister(w.clock), began: make(chan uuid.UUID, 1000), goOn: make(chan error)}
	i.worker = &queue.Worker{
		Register: i.register, Log: w.log, CatchUp: i.catchUp, Clock: w.clock, NewID: uuid.New, Instance: i.id,
		Try: func(ctx context.Context, id uuid.UUID, r events.BacktestRequest, progress func(done, total uint64)) (json.RawMessage, error) {
			progress(5, 10)
			i.began <- id
			select {
			case err := <-i.goOn:
				progress(10, 10)
				return json.RawMessage(fmt.Sprintf(`{"by":%d,"rules":%d}`, n, len(r.Rules))), err
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	}
	return i
}

// catchUp folds what is new in the log.
func (i *instance) catchUp(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for e, err := range log.Events(ctx, i.log, 0, i.read) {
		if err != nil {
			return err
		}
		if err := i.register.Apply(e); err != nil {
			return err
		}
		i.read = e.Sequence
	}
	return nil
}

// awaitBegun waits until the instance begins a backtest.
func (i *instance) awaitBegun() uuid.UUID {
	i.Helper()
	if err := i.catchUp(i.Context()); err != nil {
		i.Fatal(err)
	}
	select {
	case id := <-i.began:
		return id
	case <-time.After(waitLimit):
		i.Fatal("it begins nothing")
		return uuid.Nil
	}
}

// await waits until the backtest is in a state as the log has it.
func (i *instance) await(id uuid.UUID, state queue.State) queue.Backtest {
	i.Helper()
	for deadline := time.Now().Add(waitLimit); ; {
		if err := i.catchUp(i.Context()); err != nil {
			i.Fatal(err)
		}
		b, _, ok := i.register.Get(id)
		switch {
		case ok && b.State == state:
			return b
		case time.Now().After(deadline):
			i.Fatalf("the backtest is %+v, want it %s", b, state)
		}
	}
}

// append appends a backtest's next event.
func (w *world) append(id uuid.UUID, version uint64, eventType string, payload any) {
	w.Helper()
	data, err := json.Marshal(payload)
	if err != nil {
		w.Fatal(err)
	}
	e := events.Event{ID: uuid.New(), Type: eventType, Stream: id, Version: version, OccurredAt: w.clock(), Data: data}
	if _, err := w.log.Append(w.Context(), e); err != nil {
		w.Fatal(err)
	}
}

var by = uuid.UUID{0xb}

// request asks for a backtest of one rule.
func (w *world) request() uuid.UUID {
	w.Helper()
	text, err := json.Marshal(rule.Rule{ID: "one", Title: "One", Threshold: 3, Mode: rule.Draft})
	if err != nil {
		w.Fatal(err)
	}
	id := uuid.New()
	w.append(id, 1, events.BacktestRequested, events.BacktestRequest{By: by, Rules: []json.RawMessage{text}})
	w.pass(time.Millisecond)
	return id
}

func (w *world) stream(id uuid.UUID) (types string, report string) {
	w.Helper()
	stream, err := log.ReadStream(w.Context(), w.log, id)
	if err != nil {
		w.Fatal(err)
	}
	var names []string
	for _, e := range stream {
		name := strings.TrimSuffix(strings.TrimPrefix(e.Type, "fraud.backtest_"), ".v1")
		if name != "progressed" {
			names = append(names, name)
		}
	}
	_, _, text, err := queue.Read(stream)
	if err != nil && !errors.Is(err, queue.ErrUnknown) {
		w.Fatal(err)
	}
	return strings.Join(names, " "), string(text)
}

func TestAnInstanceDoesThemOneAfterTheOther(t *testing.T) {
	w := newWorld(t)
	a := w.start(1)
	first, second := w.request(), w.request()
	if got := a.awaitBegun(); got != first {
		t.Fatalf("it begins %s, want the oldest", got)
	}
	b := a.await(first, queue.Running)
	if b.Instance != a.id || b.By != by || len(b.Rules) != 1 || b.Rules[0].ID != "one" {
		t.Errorf("%+v", b)
	}
	if done, total, ok := a.worker.Progress(first); !ok || done != 5 || total != 10 {
		t.Errorf("progress: %d of %d, %t", done, total, ok)
	}
	if _, before, _ := a.register.Get(second); before != 0 || a.register.Waiting() != 1 {
		t.Errorf("%d before the second, %d waiting", before, a.register.Waiting())
	}
	a.goOn <- nil
	if got := a.awaitBegun(); got != second {
		t.Fatalf("it begins %s, want the second", got)
	}
	a.goOn <- fmt.Errorf("%w: the rule is too hard", queue.ErrFailed)
	if b := a.await(first, queue.Done); b.Events != 10 || b.Total != 10 || b.Error != "" {
		t.Errorf("%+v", b)
	}
	if b := a.await(second, queue.Failed); !strings.Contains(b.Error, "the rule is too hard") {
		t.Errorf("%+v", b)
	}
	if types, report := w.stream(first); types != "requested started finished" || report != `{"by":1,"rules":1}` {
		t.Errorf("%s: %s", types, report)
	}
	third := w.request()
	a.awaitBegun()
	a.goOn <- errors.New("secret.host:27017 is away")
	if b := a.await(third, queue.Failed); b.Error == "" || strings.Contains(b.Error, "secret") {
		t.Errorf("%+v", b)
	}
}

func TestOfTwoInstancesOneTakesABacktestAndTheOtherTheNext(t *testing.T) {
	w := newWorld(t)
	first, second := w.request(), w.request()
	a, b := w.start(1), w.start(2)
	x, y := a.awaitBegun(), b.awaitBegun()
	if x == y || x != first && y != first || x != second && y != second {
		t.Fatalf("they begin %s and %s, want %s and %s", x, y, first, second)
	}
	close(a.goOn)
	close(b.goOn)
	for _, id := range []uuid.UUID{first, second} {
		a.await(id, queue.Done)
		if types, _ := w.stream(id); types != "requested started finished" {
			t.Error(types)
		}
	}
}

func TestABacktestWhoseInstanceIsLostIsTakenOver(t *testing.T) {
	w := newWorld(t)
	id := w.request()
	w.append(id, 2, events.BacktestStarted, events.BacktestStep{Instance: uuid.UUID{9}})
	w.pass(queue.Stale - time.Second)
	w.append(id, 3, events.BacktestProgressed, events.BacktestStep{Instance: uuid.UUID{9}, Events: 3, Total: 10})
	w.pass(queue.Stale - 2*time.Millisecond)
	a := w.start(1)
	other := w.request() // shows that it has looked
	if got := a.awaitBegun(); got != other {
		t.Fatalf("it begins %s, whose instance has said of late that it is at it", got)
	}
	a.goOn <- nil
	a.await(other, queue.Done)
	w.pass(time.Millisecond)
	if got := a.awaitBegun(); got != id {
		t.Fatalf("it begins %s", got)
	}
	if b := a.await(id, queue.Running); b.Instance != a.id || b.Starts != 2 || b.Events != 0 {
		t.Errorf("%+v", b)
	}
	a.goOn <- nil
	a.await(id, queue.Done)
}

func TestAnInstanceThatHasLostABacktestRecordsNothing(t *testing.T) {
	for name, lose := range map[string]func(w *world, id uuid.UUID, version uint64){
		"to another instance": func(w *world, id uuid.UUID, version uint64) {
			w.append(id, version, events.BacktestStarted, events.BacktestStep{Instance: uuid.UUID{9}})
		},
		"to who cancelled it": func(w *world, id uuid.UUID, version uint64) {
			w.append(id, version, events.BacktestCancelled, events.BacktestWithdrawal{By: by})
		},
	} {
		for _, told := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, told %t", name, told), func(t *testing.T) {
				w := newWorld(t)
				a := w.start(1)
				id := w.request()
				a.awaitBegun()
				version := a.await(id, queue.Running).Version + 1
				lose(w, id, version)
				if told { // its context ends
					if err := a.catchUp(t.Context()); err != nil {
						t.Fatal(err)
					}
				} else { // it comes to its end, and finds that it is too late
					a.goOn <- nil
				}
				next := w.request()
				if got := a.awaitBegun(); got != next {
					t.Fatalf("it begins %s", got)
				}
				if types, report := w.stream(id); strings.Contains(types, "finished") || strings.Contains(types, "returned") || report != "" {
					t.Errorf("%s %s", types, report)
				}
			})
		}
	}
}

func TestEachBacktestEndsOnceWhoeverTakesCancelsOrLosesIt(t *testing.T) {
	w := newWorld(t)
	var instances []*instance
	for n := range byte(3) {
		i := w.start(n + 1)
		close(i.goOn) // it goes on at once
		instances = append(instances, i)
	}
	r := rand.New(rand.NewPCG(3, 5))
	var ids []uuid.UUID
	for n := range 60 {
		ids = append(ids, w.request())
		if r.IntN(3) == 0 { // as the service does: on what the stream says
			id := ids[r.IntN(len(ids))]
			stream, err := log.ReadStream(t.Context(), w.log, id)
			if err != nil {
				t.Fatal(err)
			}
			if b, _, _, err := queue.Read(stream); err == nil && !b.State.Ended() {
				e := events.Event{
					ID: uuid.New(), Type: events.BacktestCancelled, Stream: id, Version: b.Version + 1, OccurredAt: w.clock(),
					Data: []byte(`{"by":"0b000000-0000-0000-0000-000000000000"}`),
				}
				if _, err := w.log.Append(t.Context(), e); err != nil && !errors.Is(err, log.ErrConflict) {
					t.Fatal(err)
				}
			}
		}
		if n == 30 {
			instances[0].stop()
		}
		for _, i := range instances[r.IntN(2):] {
			if err := i.catchUp(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, id := range ids {
		for deadline := time.Now().Add(waitLimit); ; {
			for _, i := range instances {
				if err := i.catchUp(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if b, _, _ := instances[1].register.Get(id); b.State.Ended() {
				break
			} else if time.Now().After(deadline) {
				t.Fatalf("%+v", b)
			}
		}
		types, report := w.stream(id)
		ends := strings.Count(types, "finished") + strings.Count(types, "cancelled")
		if ends != 1 || strings.HasSuffix(types, "finished") != (report != "") {
			t.Errorf("%s: %s", types, report)
		}
	}
}

func TestABacktestThatTakesItsInstancesWithItIsGivenUp(t *testing.T) {
	w := newWorld(t)
	id := w.request()
	for n := range queue.MaxStarts {
		w.append(id, uint64(n+2), events.BacktestStarted, events.BacktestStep{Instance: uuid.UUID{9, byte(n)}}) //nolint:gosec // small
		w.pass(queue.Stale)
	}
	a := w.start(1)
	if b := a.await(id, queue.Failed); !strings.Contains(b.Error, "lost, 3 times") {
		t.Errorf("%+v", b)
	}
	if len(a.began) != 0 {
		t.Error("it has begun it")
	}
}

func TestAnInstanceThatEndsGivesItsBacktestBack(t *testing.T) {
	w := newWorld(t)
	a := w.start(1)
	id := w.request()
	a.awaitBegun()
	a.stop()
	if types, _ := w.stream(id); types != "requested started returned" {
		t.Fatal(types)
	}
	for n := range queue.MaxStarts + 2 { // giving it back is no loss
		b := w.start(byte(n + 2)) //nolint:gosec // small
		b.awaitBegun()
		b.stop()
	}
	last := w.start(77)
	last.awaitBegun()
	last.goOn <- nil
	if b := last.await(id, queue.Done); b.Starts != 1 {
		t.Errorf("%+v", b)
	}
}

func TestWhatHasEndedIsForgotten(t *testing.T) {
	w := newWorld(t)
	a := w.instance(1)
	ids := make([]uuid.UUID, 0, queue.MaxKept+1)
	for range queue.MaxKept + 1 {
		id := w.request()
		w.append(id, 2, events.BacktestCancelled, events.BacktestWithdrawal{By: by})
		ids = append(ids, id)
	}
	queued := w.request()
	if err := a.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, _ := a.register.List(queue.Place{}, 1000)
	if len(all) != queue.MaxKept+1 || all[0].ID != queued || all[1].ID != ids[len(ids)-1] {
		t.Errorf("%d are known, the first %s", len(all), all[0].ID)
	}
	if _, _, ok := a.register.Get(ids[0]); ok {
		t.Error("the oldest is still known")
	}
	w.append(ids[0], 3, events.BacktestRemoved, events.BacktestWithdrawal{By: by}) // of no interest any more
	w.append(ids[5], 3, events.BacktestRemoved, events.BacktestWithdrawal{By: by})
	if err := a.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := a.register.Get(ids[5]); ok {
		t.Error("one that was removed is still known")
	}
	w.pass(queue.Keep)
	if all, _ := a.register.List(queue.Place{}, 1000); len(all) != 1 || all[0].ID != queued {
		t.Errorf("a day later %d are known", len(all))
	}
}

// Whatever happens in whichever order, a register that has read everything twice,
// or has read each stream from the log, stands where one stands that has followed.
func TestARegisterIsWhatItsStreamsSay(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(rt *rapid.T) {
		type known struct {
			id      uuid.UUID
			version uint64
			state   queue.State
		}
		var all []*known
		from, err := w.log.Head(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			w.pass(time.Duration(rapid.IntRange(0, 20).Draw(rt, "seconds")) * time.Second)
			if len(all) == 0 || rapid.IntRange(0, 4).Draw(rt, "new") == 0 {
				all = append(all, &known{w.request(), 1, queue.Queued})
				continue
			}
			b := all[rapid.IntRange(0, len(all)-1).Draw(rt, "which")]
			step := events.BacktestStep{Instance: uuid.UUID{byte(rapid.IntRange(1, 3).Draw(rt, "instance"))}} //nolint:gosec // small
			var eventType string
			var payload any = step
			next := b.state
			switch b.state {
			case queue.Queued:
				eventType, next = events.BacktestStarted, queue.Running
			case queue.Running:
				kinds := []string{events.BacktestStarted, events.BacktestProgressed, events.BacktestReturned, events.BacktestFinished, events.BacktestCancelled}
				eventType = rapid.SampledFrom(kinds).Draw(rt, "what")
				switch eventType {
				case events.BacktestReturned:
					next = queue.Queued
				case events.BacktestFinished:
					next, payload = queue.Done, events.BacktestEnd{Instance: step.Instance, Report: json.RawMessage(`{}`)}
				case events.BacktestCancelled:
					next, payload = queue.Cancelled, events.BacktestWithdrawal{By: by}
				}
			default:
				continue
			}
			b.version++
			b.state = next
			w.append(b.id, b.version, eventType, payload)
		}
		register := queue.NewRegister(w.clock)
		for range 2 {
			for e, err := range log.Events(t.Context(), w.log, 0, from) {
				if err == nil {
					err = register.Apply(e)
				}
				if err != nil {
					rt.Fatal(err)
				}
			}
		}
		for _, b := range all {
			got, _, ok := register.Get(b.id)
			stream, err := log.ReadStream(t.Context(), w.log, b.id)
			if err != nil {
				rt.Fatal(err)
			}
			read, _, report, err := queue.Read(stream)
			if err != nil || !ok || got.State != b.state || read.State != b.state || got.Version != read.Version || got.Starts != read.Starts || got.Starts < 0 {
				rt.Fatalf("%v %t: %+v and %+v, want %s", err, ok, got, read, b.state)
			}
			if (report != nil) != (b.state == queue.Done) {
				rt.Fatalf("%s has a report: %s", b.state, report)
			}
		}
	})
}

func TestARuleOfALaterBuildIsKnownByName(t *testing.T) {
	w := newWorld(t)
	id := uuid.New()
	w.append(id, 1, events.BacktestRequested, events.BacktestRequest{By: by, Rules: []json.RawMessage{
		json.RawMessage(`{"id":"later","title":"Later","mode":"draft","threshold":{"from":3}}`),
	}})
	a := w.instance(1)
	if err := a.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b, _, ok := a.register.Get(id); !ok || len(b.Rules) != 1 || b.Rules[0] != (queue.Tried{ID: "later", Title: "Later", Mode: rule.Draft}) {
		t.Errorf("%+v", b)
	}
	stream, err := log.ReadStream(t.Context(), w.log, id)
	if err != nil {
		t.Fatal(err)
	}
	_, request, _, err := queue.Read(stream)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := queue.Rules(request); !errors.Is(err, queue.ErrFailed) || !strings.Contains(err.Error(), "rule 1") {
		t.Errorf("its rules: %v", err)
	}
}

func TestWhatDoesNotFollowIsRefused(t *testing.T) {
	request := events.Recorded{Event: events.Event{Type: events.BacktestRequested, Stream: uuid.UUID{1}, Version: 1, Data: []byte(`{"rules":[]}`)}}
	next := events.Recorded{Event: events.Event{Type: events.BacktestStarted, Stream: uuid.UUID{1}, Version: 3, Data: []byte(`{}`)}}
	second := request
	second.Version = 2
	broken := next
	broken.Version, broken.Data = 2, []byte(`{`)
	for name, stream := range map[string][]events.Recorded{
		"a gap": {request, next}, "a second request": {request, second}, "one that cannot be read": {request, broken},
	} {
		if _, _, _, err := queue.Read(stream); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	flag := events.Recorded{Event: events.Event{Type: events.FlagRaised, Version: 1}}
	if _, _, _, err := queue.Read([]events.Recorded{flag}); !errors.Is(err, queue.ErrUnknown) {
		t.Errorf("a flag: %v", err)
	}
}
