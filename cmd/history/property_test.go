package history_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/meet5/backend/cmd/history"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Bounds of what is drawn: small, so that things meet.
const (
	mostSteps      = 40
	partitionsUsed = 3
	streamsEach    = 2 // of a partition
	mostRestarts   = 2 // of a partition
	// enough histories have something for each spoiler.
	enough = 100
)

// step is one thing that a recorder is told.
type step struct {
	what       string // ask, acknowledge, conflict, unknown, deliver or restart
	call       int
	client     string
	intents    []history.Intent
	at         []events.Position
	subscriber string
	partition  int
	event      events.Recorded
}

// tale is a history and the log that it is about.
type tale struct {
	log   string
	steps []step
	pages [][]page
}

// clone is a copy that may be spoiled.
func (w *tale) clone() *tale {
	c := &tale{log: w.log, steps: slices.Clone(w.steps), pages: make([][]page, len(w.pages))}
	for i := range c.steps {
		c.steps[i].at = slices.Clone(c.steps[i].at)
	}
	for p := range w.pages {
		c.pages[p] = slices.Clone(w.pages[p])
		for i := range c.pages[p] {
			c.pages[p][i].events = slices.Clone(c.pages[p][i].events)
		}
	}
	return c
}

// check tells a recorder everything and has it checked.
func (w *tale) check(t *rapid.T, r log.Reader) []history.Violation {
	rec := history.NewRecorder()
	rec.Exclusive(w.log)
	rec.Complete("views", w.log)
	calls := make(map[int]*history.Call)
	for _, s := range w.steps {
		switch s.what {
		case "ask":
			calls[s.call] = rec.Invoke(s.client, w.log, s.intents...)
		case "acknowledge":
			calls[s.call].Acknowledge(s.at...)
		case "conflict":
			calls[s.call].Conflict("refused")
		case "unknown":
			calls[s.call].Unknown("timeout")
		case "deliver":
			rec.Deliver(s.subscriber, w.log, s.event)
		case "restart":
			rec.Restart(s.subscriber, w.log, s.partition)
		}
	}
	vs, err := rec.Check(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return vs
}

// asked is an append under way.
type asked struct {
	call    int
	events  []events.Event
	pending *log.Pending // nil if the request never arrived
	unknown bool         // the client was told nothing
}

// teller lives a history on a real log.
type teller struct {
	t        *rapid.T
	l        *log.Log
	tale     tale
	calls    int
	under    []asked
	settled  [][]events.Event
	versions map[uuid.UUID]uint64
}

// live draws what clients and subscribers do on an empty log.
func live(t *rapid.T, s log.Store) *tale {
	l := log.New(s, log.Options{})
	defer l.Close()
	w := &teller{t: t, l: l, tale: tale{log: s.Name(), pages: make([][]page, s.Partitions())}, versions: make(map[uuid.UUID]uint64)}
	for range rapid.IntRange(1, mostSteps).Draw(t, "steps") {
		switch rapid.IntRange(0, 7).Draw(t, "what") {
		case 0, 1, 2:
			w.ask(w.drawEvents())
		case 3:
			if len(w.settled) > 0 {
				w.ask(rapid.SampledFrom(w.settled).Draw(t, "again"))
			}
		default:
			w.answer()
		}
	}
	for len(w.under) > 0 {
		w.answer()
	}
	l.Close() // what nobody waits for is written now, too
	for p := range s.Partitions() {
		w.deliver(p, s)
	}
	return &w.tale
}

func (w *teller) drawEvents() []events.Event {
	p := rapid.IntRange(0, partitionsUsed-1).Draw(w.t, "partition")
	evs := make([]events.Event, rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(w.t, "events"))
	for i := range evs {
		e := &evs[i]
		*e = events.Event{
			ID: uuid.New(), Type: events.ProfileVisited, OccurredAt: noon, Data: []byte("{}"),
			Stream: stream(p, w.l.Partitions(), rapid.IntRange(0, streamsEach-1).Draw(w.t, "stream")),
		}
		if rapid.IntRange(0, 3).Draw(w.t, "versioned") == 0 {
			// Mostly the next one, sometimes one that is gone or too far.
			e.Version = w.versions[e.Stream] + rapid.SampledFrom([]uint64{1, 1, 1, 0, 2}).Draw(w.t, "version")
		}
		if rapid.IntRange(0, 3).Draw(w.t, "claims") == 0 {
			e.Claims = []string{rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(w.t, "claim")}
		}
	}
	return evs
}

func (w *teller) ask(evs []events.Event) {
	a := asked{call: w.calls, events: evs, unknown: rapid.IntRange(0, 4).Draw(w.t, "unknown") == 0}
	w.calls++
	client := rapid.SampledFrom([]string{"anna", "bert", "cleo"}).Draw(w.t, "client")
	w.tell(step{what: "ask", call: a.call, client: client, intents: intents(evs)})
	if !a.unknown || rapid.Bool().Draw(w.t, "arrives") {
		var err error
		if a.pending, err = w.l.Submit(evs...); err != nil {
			w.t.Fatal(err)
		}
	}
	w.under = append(w.under, a)
}

// answer settles an append that is under way, if there is any.
func (w *teller) answer() {
	if len(w.under) == 0 {
		return
	}
	i := rapid.IntRange(0, len(w.under)-1).Draw(w.t, "answered")
	a := w.under[i]
	w.under = slices.Delete(w.under, i, i+1)
	w.settled = append(w.settled, a.events)
	if a.unknown {
		w.tell(step{what: "unknown", call: a.call})
		return
	}
	at, err := a.pending.Wait(w.t.Context())
	switch {
	case errors.Is(err, log.ErrConflict):
		w.tell(step{what: "conflict", call: a.call})
		return
	case err != nil:
		w.t.Fatal(err)
	}
	s := step{what: "acknowledge", call: a.call}
	for n := range at {
		s.at = append(s.at, at[n].Position)
		w.versions[a.events[n].Stream] = max(w.versions[a.events[n].Stream], a.events[n].Version)
	}
	w.tell(s)
}

func (w *teller) tell(s step) { w.tale.steps = append(w.tale.steps, s) }

// deliver hands a partition to a subscriber that is restarted now and then.
func (w *teller) deliver(p int, r log.Reader) {
	var all []events.Recorded
	for c, err := range r.Read(w.t.Context(), p, 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		pg := page{recorded: c.RecordedAt}
		for e := range c.Events() {
			all = append(all, e)
			pg.events = append(pg.events, e.Event)
		}
		w.tale.pages[p] = append(w.tale.pages[p], pg)
	}
	n := 0
	hand := func(to int) {
		for ; n < to; n++ {
			w.tell(step{what: "deliver", subscriber: "views", partition: p, event: all[n]})
		}
	}
	highest := 0
	for range rapid.IntRange(0, mostRestarts).Draw(w.t, "restarts") {
		hand(rapid.IntRange(n, len(all)).Draw(w.t, "until"))
		highest = max(highest, n)
		w.tell(step{what: "restart", subscriber: "views", partition: p})
		n = rapid.IntRange(0, highest).Draw(w.t, "from")
	}
	hand(len(all))
}

// TestASoundHistoryPassesAndASpoiledOneDoesNot draws histories on the embedded
// log, which must pass, and then spoils each in every way that there is something
// to spoil, which must be found and called by its name.
func TestASoundHistoryPassesAndASpoiledOneDoesNot(t *testing.T) {
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	logs, spoiled := 0, make(map[string]int)
	rapid.Check(t, func(rt *rapid.T) {
		logs++
		s, err := db.Log(fmt.Sprintf("log%d", logs), 4)
		if err != nil {
			rt.Fatal(err)
		}
		sound := live(rt, s)
		for _, v := range sound.check(rt, s) {
			rt.Errorf("a sound history: %v", v)
		}
		for _, spoil := range spoilers {
			w := sound.clone()
			if !spoil.how(rt, w) {
				continue
			}
			spoiled[spoil.name]++
			vs := w.check(rt, &book{t: t, name: w.log, pages: w.pages})
			if history.Count(vs, spoil.breaks) == 0 {
				rt.Errorf("%s: want %s, got %v", spoil.name, spoil.breaks, vs)
			}
		}
	})
	for _, spoil := range spoilers {
		if spoiled[spoil.name] == 0 && logs >= enough {
			t.Errorf("nothing was found to spoil: %s", spoil.name)
		}
	}
	t.Logf("%d histories, spoiled: %v", logs, spoiled)
}

func TestManyClientsAtOncePass(t *testing.T) {
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := db.Log(events.ActivityLog, 4)
	if err != nil {
		t.Fatal(err)
	}
	// Two writers, so that their commits meet.
	writers := []*log.Log{log.New(s, log.Options{}), log.New(s, log.Options{})}
	r := history.NewRecorder()
	r.Exclusive(events.ActivityLog)
	done := make(chan error)
	const clients, calls = 8, 60
	for n := range clients {
		go func() { done <- client(t.Context(), r, writers[n%2], writers[(n+1)%2], n, calls) }()
	}
	for range clients {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, w := range writers {
		w.Close()
	}
	for _, v := range check(t, r, s) {
		t.Error(v)
	}
	if got := r.Counts(); got.Acknowledged < clients*calls || got.Conflicts == 0 || got.Unknown == 0 {
		t.Errorf("too little happened: %+v", got)
	}
}

func check(t testing.TB, r *history.Recorder, logs ...log.Reader) []history.Violation {
	t.Helper()
	vs, err := r.Check(t.Context(), logs...)
	if err != nil {
		t.Fatal(err)
	}
	return vs
}

// client asks one writer, now and then without waiting for the answer, and then
// again the other one; and all clients race for the versions of one stream.
func client(ctx context.Context, r *history.Recorder, one, other *log.Log, number, calls int) error {
	name := fmt.Sprintf("client %d", number)
	for n := range calls {
		e := events.Event{ID: uuid.New(), Type: events.ProfileVisited, Stream: stream(n%4, 4, number%2), OccurredAt: noon, Data: []byte("{}")}
		if n%10 == 0 {
			c := r.Invoke(name, one.Name(), intents([]events.Event{e})...)
			if _, err := one.Submit(e); err != nil {
				return err
			}
			c.Unknown("went away")
		}
		if err := settle(ctx, r, name, other, e); err != nil {
			return err
		}
		raced := events.Event{ID: uuid.New(), Type: events.ProfileLiked, Stream: stream(0, 4, 3), Version: uint64(n) + 1, OccurredAt: noon, Data: []byte("{}")}
		if err := settle(ctx, r, name, one, raced); err != nil {
			return err
		}
	}
	return nil
}

func settle(ctx context.Context, r *history.Recorder, name string, l *log.Log, e events.Event) error {
	c := r.Invoke(name, l.Name(), intents([]events.Event{e})...)
	at, err := l.Append(ctx, e)
	switch {
	case errors.Is(err, log.ErrConflict):
		c.Conflict(err.Error())
	case err != nil:
		return err
	default:
		c.Acknowledge(at[0].Position)
	}
	return nil
}
