package versions_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/events/servertest"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/events/subscription/mongoledger"
	"github.com/meet5/backend/projections/memstore"
	"github.com/meet5/backend/projections/mongostore"
	"github.com/meet5/backend/projections/storetest"
	"github.com/meet5/backend/projections/versions"
	"github.com/meet5/backend/projections/views"
)

const (
	// waitLimit ends a test whose condition never comes true.
	waitLimit = 8 * time.Minute
	// partitions are fewer than the real log has: what is killed is killed sooner.
	partitions = 2
	// people do something to each other.
	people = 8
)

// world is a log with some history, and a database with the first version of its
// read models.
type world struct {
	*testing.T
	ctx    context.Context
	log    *log.Log
	db     *mongo.Database
	random *rand.Rand
	users  []uuid.UUID
	ahead  atomic.Int64 // the clock's, in nanoseconds
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	t.Cleanup(cancel)
	w := &world{T: t, ctx: ctx, random: rand.New(rand.NewPCG(1, 2))}
	for range people {
		w.users = append(w.users, uuid.New())
	}
	file, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := file.Log(events.ActivityLog, partitions)
	if err != nil {
		t.Fatal(err)
	}
	w.log = log.New(store, log.Options{})
	t.Cleanup(func() {
		w.log.Close()
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	})
	w.db = connect(t, nil).Database("versions_" + uuid.NewString()[:8])
	t.Cleanup(func() {
		if err := w.db.Drop(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(mongostore.Create(ctx, w.db), mongoledger.Create(ctx, w.db)); err != nil {
		t.Fatal(err)
	}
	return w
}

// connect reaches the server; mortal, if set, decides when that ends.
func connect(t *testing.T, mortal *mortal) *mongo.Client {
	t.Helper()
	opts := options.Client().ApplyURI(servertest.Mongo(t))
	if mortal != nil {
		// Once it is dead, nothing shall wait long for it.
		opts.SetDialer(mortal).SetServerSelectionTimeout(500 * time.Millisecond).SetMonitor(&event.CommandMonitor{Started: mortal.started})
	}
	client, err := mongo.Connect(opts)
	if err != nil {
		t.Fatal(err)
	}
	if mortal != nil {
		mortal.client = client
		for client.Ping(t.Context(), nil) != nil {
			if t.Context().Err() != nil {
				t.Fatal("the server cannot be reached")
			}
		}
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	return client
}

func (w *world) clock() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

// pass lets time pass, for who goes by the world's clock.
func (w *world) pass(d time.Duration) { w.ahead.Add(int64(d)) }

// registry is a process's own.
func (w *world) registry(client *mongo.Client) *versions.Registry {
	db := client.Database(w.db.Name())
	return versions.Open(db, mongoledger.Open(db), versions.Options{
		Clock: w.clock, Logger: slog.New(slog.DiscardHandler), RenewEvery: 20 * time.Millisecond,
	})
}

// happen appends so many events of all kinds.
func (w *world) happen(n int) {
	w.Helper()
	for range n {
		actor := w.random.IntN(people)
		target := (actor + 1 + w.random.IntN(people-1)) % people
		kinds := []string{
			events.ProfileVisited, events.ProfileVisited, events.ProfileLiked, events.ProfileLiked, events.LikeWithdrawn,
			events.ActorHidden, events.ActorRestored,
		}
		e := events.Event{
			ID: uuid.New(), Type: kinds[w.random.IntN(len(kinds))], Stream: w.users[actor],
			OccurredAt: time.Unix(int64(w.random.IntN(1000)), 0).UTC(),
			Data:       events.Activity{Target: w.users[target], JoinedAt: time.Unix(0, 0)}.AppendJSON(nil),
		}
		if _, err := w.log.Append(w.ctx, e); err != nil {
			w.Fatal(err)
		}
	}
}

// keepUp brings a version up to the log's head, as the service does.
func (w *world) keepUp(version int) {
	w.Helper()
	sub := subscription.New(subscription.Config{
		Log: w.log, Group: versions.Group(version), Ledger: mongoledger.Open(w.db),
		Handler: views.Handler(mongostore.OpenVersion(w.db, version)), Logger: slog.New(slog.DiscardHandler),
	})
	ctx, stop := context.WithCancel(w.ctx)
	var running sync.WaitGroup
	running.Go(func() { _ = sub.Run(ctx) })
	err := sub.CatchUp(ctx)
	stop()
	running.Wait()
	if err != nil {
		w.Fatal(err)
	}
}

// oracle is what the log comes to.
func (w *world) oracle() views.Store {
	w.Helper()
	s := memstore.New()
	for p := range w.log.Partitions() {
		var b subscription.Batch
		for e, err := range log.Events(w.ctx, w.log, p, 0) {
			if err != nil {
				w.Fatal(err)
			}
			b.Events = append(b.Events, e)
		}
		if len(b.Events) == 0 {
			continue
		}
		b.Partition, b.First, b.Last = p, 1, b.Events[len(b.Events)-1].Sequence
		if err := views.Handler(s)(w.ctx, b); err != nil {
			w.Fatal(err)
		}
	}
	return s
}

// agrees checks a version against the oracle.
func (w *world) agrees(version int) {
	w.Helper()
	diff, err := storetest.Diff(w.ctx, w.oracle(), mongostore.OpenVersion(w.db, version), w.users)
	if err != nil {
		w.Fatal(err)
	}
	if diff != "" {
		w.Fatalf("version %d: -log +version\n%s", version, diff)
	}
}

// state is read by somebody who has nothing to do with it.
func (w *world) state() versions.State {
	w.Helper()
	s, err := w.registry(w.db.Client()).State(w.ctx)
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// mortal is a process's connections to the server. They break at a command that is
// chosen before: it never arrives, or it does and no answer comes back.
type mortal struct {
	net.Dialer
	client *mongo.Client

	doomed  atomic.Bool
	at      int64 // the command, counted from 1
	arrives bool
	die     context.CancelFunc

	sent        atomic.Int64
	dying, dead atomic.Bool
	gone        chan struct{} // closed once a dead one has let go of the server
}

var errDead = errors.New("the process is dead")

// doom begins to count commands.
func (m *mortal) doom(at int64, arrives bool, die context.CancelFunc) {
	m.at, m.arrives, m.die, m.gone = at, arrives, die, make(chan struct{})
	m.doomed.Store(true)
}

func (m *mortal) started(context.Context, *event.CommandStartedEvent) {
	switch {
	case !m.doomed.Load() || m.sent.Add(1) != m.at:
	case m.arrives:
		m.dying.Store(true)
	default:
		m.kill()
	}
}

func (m *mortal) kill() {
	if m.dead.Swap(true) {
		return
	}
	m.die()
	go func() { // so that nothing waits for it
		defer close(m.gone)
		_ = m.client.Disconnect(context.Background())
	}()
}

// rest has one that lives die quietly, and waits until one that was killed is gone:
// the command that kills may be one of the driver's own, which nobody else waits for.
func (m *mortal) rest() {
	if m.dead.Swap(true) {
		<-m.gone
	}
}

// DialContext implements the driver's dialer.
func (m *mortal) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if m.dead.Load() {
		return nil, errDead
	}
	c, err := m.Dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &mortalConn{c, m}, nil
}

type mortalConn struct {
	net.Conn
	*mortal
}

func (c *mortalConn) Write(b []byte) (int, error) {
	if c.dead.Load() {
		return 0, errDead
	}
	n, err := c.Conn.Write(b)
	if c.dying.Load() {
		c.kill()
	}
	return n, err
}

func (c *mortalConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.dead.Load() {
		return 0, errDead
	}
	return n, err
}
