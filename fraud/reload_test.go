package fraud_test

import (
	"bytes"
	"context"
	"flag"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/evidence"
	"github.com/meet5/backend/fraud/order"
	"github.com/meet5/backend/fraud/register"
	"github.com/meet5/backend/fraud/rule"
)

// expectedFlags says by the logs alone which flags there must be: of each version of a
// rule an engine of its own runs over all of a partition, or over the order of all; of the
// hits in the version's spans, in the order of the log, the first of each user and rule
// raises a flag.
func (w *world) expectedFlags() map[uuid.UUID][]byte {
	w.Helper()
	rules := register.New()
	for e, err := range log.Events(w.Context(), w.fraud, 0, 0) {
		if err != nil {
			w.Fatal(err)
		}
		rules.Apply(e)
	}
	heads, err := order.Heads(w.Context(), w.activity)
	if err != nil {
		w.Fatal(err)
	}
	want := make(map[uuid.UUID][]byte)
	known, _ := rules.All()
	for _, k := range known {
		engines := make(map[string][]*engine.Engine) // by version and partition
		ordered := false
		for _, span := range k.Spans {
			spec, err := k.Read(span.Version)
			if err != nil {
				w.Fatal(err)
			}
			if engines[span.Version] != nil {
				continue
			}
			ordered = spec.Ordered()
			for range w.activity.Partitions() {
				g, err := engine.NewByActor(engine.NewUsers(), []rule.Rule{spec})
				if ordered {
					g, err = engine.NewOrdered(engine.NewUsers(), []rule.Rule{spec}, w.activity.Partitions())
				}
				if err != nil {
					w.Fatal(err)
				}
				engines[span.Version] = append(engines[span.Version], g)
			}
		}
		flagged := make(map[uuid.UUID]bool)
		for e, err := range order.All(w.Context(), w.activity, w.fraud, heads) { // of each actor it is the log's
			if err != nil {
				w.Fatal(err)
			}
			p := 0
			if !ordered {
				p = e.Partition
			}
			for version, list := range engines {
				for _, h := range list[p].Process(&e, nil) {
					live := slices.ContainsFunc(k.Spans, func(s register.Span) bool { return s.Version == version && s.Holds(e.Partition, e.Sequence) })
					if !live || flagged[h.User] {
						continue
					}
					flagged[h.User] = true
					shown, err := evidence.Read(w.Context(), w.activity, h.Shown())
					if err != nil {
						w.Fatal(err)
					}
					f, err := h.Flag(shown)
					if err != nil {
						w.Fatal(err)
					}
					want[f.Stream] = f.Data
				}
			}
		}
	}
	return want
}

// sameFlags fails unless a fraud log has exactly these flags, byte for byte.
func (w *world) sameFlags(l *log.Log, want map[uuid.UUID][]byte) {
	w.Helper()
	got := make(map[uuid.UUID][]byte)
	for _, e := range w.fraudEvents(l, events.FlagRaised) {
		if got[e.Stream] != nil {
			w.Errorf("flag %s is raised twice", e.Stream)
		}
		got[e.Stream] = e.Data
	}
	for id, data := range want {
		if !bytes.Equal(got[id], data) {
			w.Errorf("flag %s is %s, want %s", id, got[id], data)
		}
	}
	for id, data := range got {
		if want[id] == nil {
			w.Errorf("flag %s should not be there: %s", id, data)
		}
	}
}

// copyRules copies what happened to rules, and the cuts, and nothing else, to another
// fraud log.
func (w *world) copyRules(to *log.Log) {
	w.Helper()
	for e, err := range log.Events(w.Context(), w.fraud, 0, 0) {
		if err != nil {
			w.Fatal(err)
		}
		switch e.Type {
		case events.RuleDefined, events.RuleModeChanged, events.RuleTookEffect, events.OrderCut:
		default:
			continue
		}
		if _, err := to.Append(w.Context(), e.Event); err != nil {
			w.Fatal(err)
		}
	}
}

// instance is a service on the world's logs that can be killed.
type instance struct {
	*running
	store  *brittle
	ledger *mortalLedger
}

// mortalLedger takes nothing in any more once its instance is dead.
type mortalLedger struct {
	subscription.Ledger
	dead atomic.Bool
}

func (m *mortalLedger) Save(ctx context.Context, c subscription.Checkpoint) error {
	if m.dead.Load() {
		return nil
	}
	return m.Ledger.Save(ctx, c)
}

// sharedStore is a store for the fraud logs of several instances. The world's own log
// is on it, too.
func (w *world) sharedStore() log.Store {
	w.Helper()
	store, err := w.db.Log("fraud-shared", events.FraudPartitions)
	if err != nil {
		w.Fatal(err)
	}
	w.fraud = log.New(store, log.Options{Clock: w.clock.Now})
	w.Cleanup(w.fraud.Close)
	return store
}

// spawn starts an instance with a fraud log of its own on a store that all share.
func (w *world) spawn(store log.Store, book ...rule.Rule) *instance {
	w.Helper()
	i := &instance{store: &brittle{Store: store}, ledger: &mortalLedger{Ledger: w.side.Ledger()}}
	impatient := func(context.Context, int) error { return errDown }
	l := log.New(i.store, log.Options{Clock: w.clock.Now, Backoff: impatient})
	w.Cleanup(l.Close)
	i.running = w.runOn(l, i.ledger, book...)
	return i
}

// kill ends the instance at once: nothing that it does from here on leaves a trace.
func (i *instance) kill() {
	i.store.down.Store(true)
	i.ledger.dead.Store(true)
	i.stop()
}

// follow has the instance work through the activity log, by the rules that it happens
// to know.
func (r *running) follow() {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	for _, s := range r.service.Subscriptions() {
		if s.Group() == "fraud-rules" {
			if err := s.CatchUp(ctx); err != nil {
				r.Fatal(err)
			}
		}
	}
}

// Whatever happens to rules while two instances run, are restarted or killed, know of
// the rules or not yet, and members go on: which flags there are follows from the logs,
// and a replay into an empty fraud log raises the same.
func TestLiveFlagsAreThoseOfAReplayThroughAnyChangesOfRules(t *testing.T) {
	fewer(t, 25)
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		store := w.sharedStore()
		book := []rule.Rule{likesRule("book", 3, 40)}
		instances := []*instance{w.spawn(store, book...), w.spawn(store, book...)}
		ids := []string{"book", "one", "two", "crowd", "ring"}
		instances[0].put(likesRule("one", 3, 10), "new", nil).want(t, http.StatusCreated)
		instances[0].put(likesRule("two", 2, 10), "new", nil).want(t, http.StatusCreated)
		instances[0].put(crowdRule("crowd", 3), "new", nil).want(t, http.StatusCreated)
		instances[0].put(ringRule("ring", 3), "new", nil).want(t, http.StatusCreated)
		now := start
		for range rapid.IntRange(10, 30).Draw(rt, "steps") {
			i := rapid.IntRange(0, 1).Draw(rt, "instance")
			s := instances[i]
			id := rapid.SampledFrom(ids).Draw(rt, "rule")
			switch rapid.SampledFrom([]string{"act", "act", "act", "act", "follow", "follow", "follow", "mode", "mode", "mode", "put", "restart", "kill", "catch up", "catch up"}).Draw(rt, "what") {
			case "act":
				for range rapid.IntRange(1, 6).Draw(rt, "acts") {
					now = now.Add(time.Minute)
					w.post(likes(user(rapid.IntRange(0, 30).Draw(rt, "user")), rapid.IntRange(1, 4).Draw(rt, "likes"), now)...)
				}
				w.clock.Set(now) // so that checkpoints are due
			case "follow":
				s.follow()
			case "mode":
				to := rapid.SampledFrom([]rule.Mode{rule.Shadow, rule.Shadow, rule.Live, rule.Live, rule.Live, rule.Draft, rule.Retired}).Draw(rt, "to")
				if a := s.setMode(id, to, true); a.status != http.StatusOK && a.status != http.StatusConflict {
					t.Fatalf("%d %s", a.status, a.body)
				}
			case "put":
				r := likesRule(id, rapid.IntRange(2, 5).Draw(rt, "threshold"), 10)
				switch id {
				case "crowd":
					r = crowdRule(id, r.Threshold)
				case "ring":
					r = ringRule(id, r.Threshold)
				}
				s.put(r, "another", nil).want(t, http.StatusOK)
			case "restart":
				s.stop()
				instances[i] = w.spawn(store, book...)
			case "kill":
				s.kill()
				instances[i] = w.spawn(store, book...)
			case "catch up":
				s.catchUp()
			}
		}
		dies, lives := instances[0], instances[1]
		dies.kill()
		lives.catchUp()
		want := w.expectedFlags()
		w.sameFlags(w.fraud, want)
		lives.stop()
		// Without checkpoints everything is found anew, and nothing more is raised.
		w.runOn(w.fraud, subscription.NewMemory(), book...).stop()
		w.sameFlags(w.fraud, want)

		replayed := w.openLog("fraud-replayed", events.FraudPartitions)
		w.copyRules(replayed)
		w.runOn(replayed, subscription.NewMemory(), book...).stop()
		w.sameFlags(replayed, want)
	})
}

// fewer has rapid make fewer checks than it does by itself, for tests of which each
// takes long. Who asks for a number gets it.
func fewer(t *testing.T, checks int) {
	t.Helper()
	f := flag.Lookup("rapid.checks")
	if f.Value.String() != f.DefValue {
		return
	}
	set := func(value string) {
		if err := f.Value.Set(value); err != nil {
			t.Fatal(err)
		}
	}
	set(strconv.Itoa(checks))
	t.Cleanup(func() { set(f.DefValue) })
}

// deafReader is an activity log of which, once told so, nothing can be read, or nothing
// from the beginning.
type deafReader struct {
	log.Reader
	all, toHistory atomic.Bool
}

func (d *deafReader) Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	if d.all.Load() || after == 0 && d.toHistory.Load() {
		return func(yield func(events.Commit, error) bool) { yield(events.Commit{}, errDown) }
	}
	return d.Reader.Read(ctx, partition, after)
}

// One instance takes a rule live and dies before it has seen what comes next; the other
// has, but could not load the rule yet. Neither may have said that flags are raised up
// to there.
func TestWhoHasNotLoadedARuleYetDoesNotSayThatItsFlagsAreRaised(t *testing.T) {
	w := newWorld(t)
	store := w.sharedStore()
	shadow := likesRule("three-likes", 3, 40)
	shadow.Mode = rule.Shadow
	accepts, slow := &deafReader{Reader: w.activity}, &deafReader{Reader: w.activity}
	w.reader = accepts
	a := w.spawn(store, shadow)
	w.reader = slow
	b := w.spawn(store, shadow)
	w.post(likes(user(1), 1, start)...)
	a.catchUp()
	b.catchUp()

	accepts.all.Store(true)
	slow.toHistory.Store(true)
	a.setMode("three-likes", rule.Live, false).want(t, http.StatusOK)
	a.kill()
	w.post(likes(user(1), 3, start.Add(time.Minute))...)
	w.clock.Set(start.Add(time.Hour)) // a checkpoint is due
	b.follow()
	b.kill()
	if raised := w.fraudEvents(w.fraud, events.FlagRaised); len(raised) != 0 {
		t.Fatalf("%d flags are raised already: the test shows nothing", len(raised))
	}

	w.reader = w.activity
	w.spawn(store, shadow).catchUp()
	if raised := w.fraudEvents(w.fraud, events.FlagRaised); len(raised) != 1 {
		t.Errorf("%d flags, want 1", len(raised))
	}
}

// Who has announced a change may die before it is on record where it takes effect.
func TestAnAnnouncedChangeIsSettledOnceByWhoeverSeesIt(t *testing.T) {
	w := newWorld(t)
	store := w.sharedStore()
	shadow := likesRule("three-likes", 3, 40)
	shadow.Mode = rule.Shadow
	instances := []*instance{w.spawn(store, shadow), w.spawn(store, shadow), w.spawn(store, shadow)}
	w.post(likes(user(1), 3, start)...)
	data := []byte(`{"rule":"three-likes","from":"shadow","to":"live","by":"anna","why":"w"}`)
	e := events.Event{ID: uuid.New(), Type: events.RuleModeChanged, Stream: register.Stream(shadow.ID), Version: 2, OccurredAt: start, Data: data}
	if _, err := w.fraud.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for _, s := range instances {
		all.Go(func() {
			if err := s.service.CatchUp(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(w.fraudEvents(w.fraud, events.RuleTookEffect)); n != 1 {
		t.Errorf("it took effect %d times", n)
	}
	w.post(likes(user(2), 3, start)...)
	for _, s := range instances {
		s.catchUp()
	}
	raised := w.fraudEvents(w.fraud, events.FlagRaised)
	if len(raised) != 1 {
		t.Fatalf("%d flags, want that of %s alone", len(raised), user(2))
	}
	w.sameFlags(w.fraud, w.expectedFlags())
}

// A rule ceases to be live and is so again while nothing happens: two spans begin at one
// place. Who has only heard of the first owes what is in the second.
func TestASpanThatBeginsWhereAnotherDidIsNotTakenForIt(t *testing.T) {
	for _, r := range []rule.Rule{likesRule("changes", 3, 40), crowdRule("changes", 3)} {
		t.Run(string(r.Key), func(t *testing.T) {
			w := newWorld(t)
			store := w.sharedStore()
			accepts, slow := &deafReader{Reader: w.activity}, &deafReader{Reader: w.activity}
			w.reader = accepts
			a := w.spawn(store, r)
			w.reader = slow
			b := w.spawn(store, r)
			for i := range 3 {
				w.post(likes(user(2+i), 1, start)...)
			}
			a.catchUp()
			b.catchUp()
			for _, to := range []rule.Mode{rule.Shadow, rule.Live, rule.Shadow} {
				a.setMode(r.ID, to, true).want(t, http.StatusOK)
				b.catchUp()
			}
			slow.toHistory.Store(true)
			a.setMode(r.ID, rule.Live, true).want(t, http.StatusOK)
			a.kill()
			for i := range 3 {
				w.post(likes(user(2+i), 3, start.Add(time.Minute))...)
			}
			b.follow()
			slow.toHistory.Store(false)
			b.catchUp()
			w.sameFlags(w.fraud, w.expectedFlags())
			if n := len(w.fraudEvents(w.fraud, events.FlagRaised)); n != 3 {
				t.Errorf("%d flags, want 3", n)
			}
		})
	}
}
