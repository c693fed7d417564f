package activity_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
)

// A service that does not follow the user log yet knows nobody.
func TestUnknownIsNotAbsent(t *testing.T) {
	w := newWorld(t)
	ann, bob := w.newUser(), w.newUser()
	body := fmt.Sprintf(`{"type":"visit","target":%q}`, bob)
	rec := w.post(single, w.token(ann), body)
	w.reply(rec, http.StatusServiceUnavailable)
	if rec.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if w.ready() {
		t.Error("ready without knowing the users")
	}
	w.run()
	w.reply(w.post(single, w.token(ann), body), http.StatusCreated)
	w.until("it is ready", w.ready)
}

func TestAUserIsKnownAtOnceAndGoneAtOnce(t *testing.T) {
	w := newWorld(t).run()
	ann := w.newUser()
	for range 20 {
		bob := w.newUser()
		body := fmt.Sprintf(`{"type":"visit","target":%q}`, bob)
		w.reply(w.post(single, w.token(ann), body), http.StatusCreated)
		w.tell(bob, events.UserErased, events.Erasure{By: bob.String()})
		if err := w.service.CatchUp(w.context()); err != nil {
			t.Fatal(err)
		}
		w.reply(w.post(single, w.token(ann), body), http.StatusNotFound)
	}
}

// counting is a user log that counts how often its head was asked for.
type counting struct {
	log.Reader
	heads atomic.Int64
}

func (c *counting) Head(ctx context.Context, partition int) (uint64, error) {
	c.heads.Add(1)
	return c.Reader.Head(ctx, partition)
}

func TestAFloodOfUnknownTargetsCostsLittle(t *testing.T) {
	users := &counting{}
	w := newWorld(t, func(d *activity.Deps) { users.Reader, d.Users = d.Users, users }).run()
	bot := w.newUser()
	body := ""
	for range 1000 {
		body += fmt.Sprintf("{\"type\":\"visit\",\"target\":%q}\n", uuid.New())
	}
	before := users.heads.Load()
	for _, r := range w.replies(w.post(lines, w.token(bot), body)) {
		if r.Status != http.StatusNotFound {
			t.Fatalf("%+v", r)
		}
	}
	// One reading for the batch; the idle look at the heads may come between.
	if n := users.heads.Load() - before; n > 10 {
		t.Errorf("the head was asked for %d times", n)
	}
}

// ill is a store whose inserts fail while it is told so.
type ill struct {
	log.Store
	down    atomic.Bool
	blocked chan struct{} // if not nil, inserts wait for it
	waiting chan struct{}
}

var errDown = errors.New("disk on fire")

func (s *ill) Insert(ctx context.Context, c events.Commit, keys []string) error {
	if s.down.Load() {
		return errDown
	}
	if s.blocked != nil {
		s.waiting <- struct{}{}
		<-s.blocked
	}
	return s.Store.Insert(ctx, c, keys)
}

func withStore(t *testing.T, s *ill, timeout time.Duration) option {
	return func(d *activity.Deps) {
		db, err := boltlog.Open(filepath.Join(t.TempDir(), "activity.db"))
		if err != nil {
			t.Fatal(err)
		}
		store, err := db.Log(events.ActivityLog, events.ActivityPartitions)
		if err != nil {
			t.Fatal(err)
		}
		s.Store = store
		d.Log = log.New(s, log.Options{Timeout: timeout})
		t.Cleanup(func() {
			d.Log.Close()
			_ = db.Close()
		})
	}
}

func TestWithTheStoreDownActivitiesAreRefusedAndItRecovers(t *testing.T) {
	store := &ill{}
	w := newWorld(t, withStore(t, store, 50*time.Millisecond)).run()
	ann, bob := w.newUser(), w.newUser()
	body := fmt.Sprintf(`{"type":"visit","target":%q,"id":%q}`, bob, uuid.New())
	w.reply(w.post(single, w.token(ann), body), http.StatusCreated)

	store.down.Store(true)
	other := fmt.Sprintf(`{"type":"like","target":%q,"id":%q}`, bob, uuid.New())
	rec := w.post(single, w.token(ann), other)
	if got := w.reply(rec, http.StatusServiceUnavailable); got.Detail == "" || rec.Header().Get("Retry-After") == "" {
		t.Errorf("%+v %v", got, rec.Header())
	}
	got := w.replies(w.post(lines, w.token(ann), other+"\n"+`{"type":"poke"}`))
	if got[0].Status != 503 || got[1].Status != 422 || got[0].ID == uuid.Nil {
		t.Errorf("%+v", got)
	}

	store.down.Store(false)
	w.reply(w.post(single, w.token(ann), other), http.StatusCreated)
	w.reply(w.post(single, w.token(ann), body), http.StatusOK)
}

func TestAFullQueueIsRefusedAndWhatWaitsIsWritten(t *testing.T) {
	store := &ill{blocked: make(chan struct{}), waiting: make(chan struct{}, 64)}
	var queue *log.Log
	w := newWorld(t, withStore(t, store, time.Minute), func(d *activity.Deps) { queue = d.Log }).run()
	ann, bob := w.newUser(), w.newUser()
	fill := func() (*log.Pending, error) {
		var evs []events.Event
		for range events.MaxCommitEvents {
			evs = append(evs, activity.NewEvent(ann, bob, activity.Visit, uuid.New(), w.clock.Now(), joined, false))
		}
		return queue.Submit(evs...)
	}
	first, err := fill()
	if err != nil {
		t.Fatal(err)
	}
	waiting := []*log.Pending{first}
	<-store.waiting // one commit is under way, the next ones fill the queue
	for {
		p, err := fill()
		if errors.Is(err, log.ErrOverloaded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, p)
	}
	body := fmt.Sprintf(`{"type":"visit","target":%q,"id":%q}`, bob, uuid.New())
	rec := w.post(single, w.token(ann), body)
	w.reply(rec, http.StatusServiceUnavailable)
	if rec.Header().Get("Retry-After") != "1" {
		t.Errorf("Retry-After is %q", rec.Header().Get("Retry-After"))
	}
	if got := w.replies(w.post(lines, w.token(ann), body)); got[0].Status != 503 {
		t.Errorf("%+v", got)
	}

	close(store.blocked)
	for _, p := range waiting {
		if _, err := p.Wait(w.context()); err != nil {
			t.Fatal(err)
		}
	}
	w.reply(w.post(single, w.token(ann), body), http.StatusCreated)
}
