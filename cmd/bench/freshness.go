package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/cmd/ingest"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/projections"
	"github.com/meet5/backend/projections/versions"
	"github.com/meet5/backend/projections/views"
)

const (
	// connections is how many members post at once, each over a connection.
	connections = 64
	// signedUp members post. Of those who were imported, visited are visited by the
	// load, and watched only to see when it shows.
	signedUp, visited, watched = 32, 2_000, 2_000
	// freshnessTurns is how many times longer than others a turn of freshness is, so
	// that a 99th percentile is of some hundred.
	freshnessTurns = 5
	// watchEvery is how often a visit is watched: those who watch are load, too.
	watchEvery = 25 * time.Millisecond
	// pollEvery is how long a list is awaited before it is asked for, each time. So
	// much too late an answer may be, and a query longer.
	pollEvery = 4 * time.Millisecond
	// patience bounds the wait for something to be visible.
	patience = 30 * time.Second
)

// freshness is how long after its 201 an activity is visible to the member who was
// visited, in milliseconds, while the whole backend works at half of its full load:
// gateway, token, log, bus, subscription, read model. Full load is what 64
// connections get posted, one activity a request, until all of it is in the read
// models. One visit at a time is watched, in turn in the store and over HTTP.
var freshness = Work{
	Name:  "freshness",
	Ours:  "from a 201 until the visit is in the target's visitors, the whole backend on MongoDB and RabbitMQ at half load",
	Limit: "",
	Figures: []Figure{
		{Name: "full load", Unit: "requests/s"},
		{Name: "load while watching", Unit: "requests/s"},
		{Name: "p50 of the 201", Unit: "ms"},
		{Name: "p99 of the 201", Unit: "ms"},
		{Name: "p50 in the store", Unit: "ms", Target: Target{AtMost: 10}},
		{Name: "p99 in the store", Unit: "ms", Target: Target{AtMost: 50}},
		{Name: "p50 over HTTP", Unit: "ms", Target: Target{AtMost: 10}},
		{Name: "p99 over HTTP", Unit: "ms", Target: Target{AtMost: 50}},
	},
	Mongo: true, AMQP: true,
	open: func(ctx context.Context, s *site) (turn, error) {
		w, err := newWhole(ctx, s)
		if err != nil {
			return nil, err
		}
		full, err := w.fullLoad(ctx, s.For)
		if err != nil {
			return nil, fmt.Errorf("find the full load: %w", err)
		}
		return func(ctx context.Context) ([]Pair, error) {
			return w.watchAtHalf(ctx, full, freshnessTurns*s.For, w.seeInStore, w.seeOverHTTP)
		}, nil
	},
}

// watchAtHalf watches for these sights at half of the full load. The pairs are the full
// load, the load meanwhile, and the 50th and 99th percentile of how long the load's
// answers take and each sight.
func (w *whole) watchAtHalf(ctx context.Context, full float64, d time.Duration, sights ...sight) ([]Pair, error) {
	rate, took, err := w.watch(ctx, full/2, d, sights)
	if err != nil {
		return nil, err
	}
	pairs := []Pair{{Ours: full}, {Ours: rate}}
	for _, d := range took {
		pairs = append(pairs, Pair{Ours: percentile(d, 50)}, Pair{Ours: percentile(d, 99)})
	}
	return pairs, nil
}

// sight is something to be seen: it makes it, and returns how long it took to show.
type sight func(ctx context.Context) (time.Duration, error)

// percentile is in milliseconds.
func percentile(of []time.Duration, p int) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return float64(sorted[(len(sorted)*p-1)/100]) / float64(time.Millisecond)
}

const adminEmail = "admin@example.org"

// whole is the whole backend, running, and members.
type whole struct {
	*backend.Backend
	url     string
	members []*member
	visited []uuid.UUID
	watched []uuid.UUID
	visits  atomic.Int64
	// imported is how many accounts were.
	imported int
}

func newWhole(ctx context.Context, s *site) (*whole, error) {
	for _, concern := range []string{"log", "user", "projections", "activity", "fraud"} {
		s.database(concern) // so that it is dropped
	}
	if err := s.removeBackendExchanges(); err != nil {
		return nil, err
	}
	b, err := backend.New(ctx, backend.Config{
		Where: backend.Where{Mongo: s.Mongo, AMQP: s.AMQP, Prefix: s.prefix}, AdminEmail: adminEmail, AdminPassword: password,
	}, s.Logger)
	if err != nil {
		return nil, err
	}
	s.onClose(func(context.Context) error { return b.Close() })
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- b.Run(running, listener) }()
	s.onClose(func(context.Context) error { stop(); return <-ended })

	w := &whole{Backend: b, url: "http://" + listener.Addr().String()}
	if w.visited, err = w.people(ctx, s.scaled(visited, 2)); err != nil {
		return nil, err
	}
	if w.watched, err = w.people(ctx, s.scaled(watched, 2)); err != nil {
		return nil, err
	}
	transport := newTransport()
	s.onClose(func(context.Context) error { transport.CloseIdleConnections(); return nil })
	for i := range s.scaled(signedUp, 3) {
		m, err := signUp(ctx, transport, w.url, fmt.Sprintf("member%d", i))
		if err != nil {
			return nil, err
		}
		w.members = append(w.members, m)
	}
	return w, b.WaitReady(ctx)
}

// people imports so many accounts.
func (w *whole) people(ctx context.Context, n int) ([]uuid.UUID, error) {
	accounts, ids := make([]ingest.Account, n), make([]uuid.UUID, n)
	for i := range accounts {
		ids[i] = person(w.imported + i)
		accounts[i] = ingest.Account{ID: ids[i], Name: fmt.Sprint("member ", w.imported+i), JoinedAt: epoch}
	}
	w.imported += n
	return ids, ingest.Accounts(ctx, w.User, accounts)
}

// groups are the groups that have queues in the backend. If one is missing here, its
// exchange is still in use at the end, and that is an error.
var groups = []string{projections.Group, activity.VisibilityGroup, "user-standing", "user-erasure", "fraud-erasure", "fraud-raised"}

// removeBackendExchanges has the exchanges and queues of the backend removed when
// the work ends.
func (s *site) removeBackendExchanges() error {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	for log, size := range map[string]int{events.UserLog: events.UserPartitions, events.ActivityLog: events.ActivityPartitions, events.FraudLog: events.FraudPartitions} {
		name := s.prefix + "." + log
		var queues []string
		for p := range size {
			for _, group := range groups {
				queues = append(queues, fmt.Sprintf("%s.%d.%s", name, p, group))
			}
		}
		s.onClose(func(ctx context.Context) error { return removeExchange(ctx, conn, name, queues) })
	}
	return nil
}

// post has a member visit one of those who are not watched.
func (w *whole) post(ctx context.Context, caller int) error {
	n := w.visits.Add(1)
	_, err := w.members[caller%len(w.members)].visit(ctx, w.visited[int(n*7919)%len(w.visited)])
	return err
}

// fullLoad posts as fast as answers come and returns how many activities a second
// the backend works through, up to the read models.
func (w *whole) fullLoad(ctx context.Context, d time.Duration) (perSecond float64, err error) {
	return clocked(func() (int, error) {
		before := w.visits.Load()
		_, err := loop(ctx, connections, d, func(ctx context.Context, caller int) (int, error) {
			return 1, w.post(ctx, caller)
		})
		if err == nil {
			err = w.Projections.CatchUp(ctx)
		}
		return int(w.visits.Load() - before), err
	})
}

// watch posts so many activities a second, whether answers come or not, and meanwhile
// watches for these sights by turns.
func (w *whole) watch(ctx context.Context, perSecond float64, d time.Duration, sights []sight) (rate float64, took [][]time.Duration, err error) {
	answers, took := make([][]time.Duration, connections), make([][]time.Duration, len(sights))
	begin, before := time.Now(), w.visits.Load()
	until := begin.Add(d)
	var next atomic.Int64
	var posted int64
	err = each(ctx, connections+1, func(ctx context.Context, caller int) error {
		if caller == connections {
			defer func() { posted = w.visits.Load() - before }()
			for n := 0; n < len(sights) || time.Now().Before(until); n++ {
				if err := pause(ctx, time.Until(begin.Add(time.Duration(n)*watchEvery))); err != nil {
					return err
				}
				one, err := sights[n%len(sights)](ctx)
				if err != nil {
					return err
				}
				took[n%len(sights)] = append(took[n%len(sights)], one)
			}
			return nil
		}
		for {
			n := next.Add(1)
			due := begin.Add(time.Duration(float64(n) / perSecond * float64(time.Second)))
			if n > 1 && due.After(until) { // one at least, or there is nothing to tell
				return nil
			}
			if err := pause(ctx, time.Until(due)); err != nil {
				return err
			}
			sent := time.Now()
			if err := w.post(ctx, caller); err != nil {
				return err
			}
			answers[caller] = append(answers[caller], time.Since(sent))
		}
	})
	if err == nil {
		err = w.Projections.CatchUp(ctx)
	}
	return float64(posted) / d.Seconds(), append([][]time.Duration{slices.Concat(answers...)}, took...), err
}

// seeInStore has a member visit somebody and asks the store until it shows.
func (w *whole) seeInStore(ctx context.Context) (time.Duration, error) {
	n := int(w.visits.Add(1))
	from, target := w.members[n%len(w.members)], w.watched[n%len(w.watched)]
	return see(ctx, from, target, func(ctx context.Context) (who uuid.UUID, at time.Time, err error) {
		found, err := w.Versions.Store(versions.First).Visitors(ctx, target, views.Page{Limit: 1})
		if err != nil || len(found) == 0 {
			return who, at, err
		}
		return found[0].User, found[0].LastAt, nil
	})
}

// seeOverHTTP has a member visit another, who asks for the list until it shows.
func (w *whole) seeOverHTTP(ctx context.Context) (time.Duration, error) {
	n, all := int(w.visits.Add(1)), len(w.members)
	from, to := w.members[n%all], w.members[(n+1+n/all%(all-1))%all]
	return see(ctx, from, to.id, to.lastVisitor)
}

// errInvisible says that a visit was acknowledged and does not show.
var errInvisible = errors.New("a visit that was acknowledged is not visible")

// see makes a visit and returns how long it takes until last gives it.
func see(ctx context.Context, from *member, target uuid.UUID, last func(context.Context) (uuid.UUID, time.Time, error)) (time.Duration, error) {
	occurred, err := from.visit(ctx, target)
	if err != nil {
		return 0, err
	}
	for begin := time.Now(); ; {
		if err := pause(ctx, pollEvery); err != nil {
			return 0, err
		}
		who, at, err := last(ctx)
		took := time.Since(begin)
		switch {
		case err != nil:
			return 0, fmt.Errorf("ask for visitors: %w", err)
		case who == from.id && !at.Before(occurred):
			return took, nil
		case took > patience:
			return 0, fmt.Errorf("%w after %v", errInvisible, took)
		}
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
