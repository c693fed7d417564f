package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

// fault is one way to ill-treat a house. do returns once all of it is healed and
// what was killed has been started again.
type fault struct {
	name string
	what string
	do   func(ctx context.Context, o *ordeal) error
	// ownWriter says that the house needs a writer whose clock can be set.
	ownWriter bool
	// flatOut says that clients do not pause.
	flatOut bool
}

// faults is the matrix, by name.
func faults() []fault {
	return []fault{
		{name: "broker-outage", what: "the broker is killed, and started again much later, while clients send all they can", do: brokerOutage, flatOut: true},
		{name: "clock-back", what: "the clock of one of three writers goes back an hour, and later forward again", do: clockBack, ownWriter: true},
		{name: "cut-connections", what: "all connections to broker and database are reset, several times", do: cutConnections},
		{name: "delay-connections", what: "everything to and from broker and database takes 100 to 300 ms more", do: delayConnections},
		{name: "fail-over", what: "one instance of every service is killed, all at once; the others go on alone", do: failOver},
		{name: "half-open-connections", what: "connections to broker and database stay up and carry nothing, in one direction and then in the other", do: halfOpenConnections},
		{name: "kill-broker", what: "the broker is killed and started again", do: killService("broker")},
		{name: "kill-database", what: "the database is killed and started again", do: killService("database")},
		{name: "kill-projector", what: "an instance of projections is killed in the middle of a batch, and started again; then the other", do: killInstances(projectionsService)},
		{name: "kill-writer", what: "an instance of activity is killed in the middle of a commit, and started again; then the other", do: killInstances(activityService)},
		{name: "overflow-queues", what: "queues hold two messages at most while the projections stand still", do: overflowQueues},
		{name: "pause-broker", what: "the broker stands still", do: pauseService("broker")},
		{name: "pause-database", what: "the database stands still", do: pauseService("database")},
		{name: "pause-projector", what: "an instance of projections stands still; then the other", do: pauseInstances(projectionsService)},
		{name: "pause-writer", what: "an instance of activity stands still; then the other", do: pauseInstances(activityService)},
		{name: "purge-queues", what: "all queues are emptied, several times", do: purgeQueues},
	}
}

const (
	// inFlight is for how long the database's answers are kept back before a
	// program is killed, so that it dies with work under way that is done and not
	// answered.
	inFlight = 30 * time.Millisecond
	// times is how often what happens several times happens.
	times = 3
	// leastDelay and mostDelay are by how much connections are delayed.
	leastDelay, mostDelay = 100 * time.Millisecond, 300 * time.Millisecond
	// back is how far a clock is set back.
	back = time.Hour
	// fullAt is the length of a queue that overflows.
	fullAt = 2
)

// killInstances kills one instance after the other while the database has taken
// its work and has not answered.
func killInstances(service string) func(context.Context, *ordeal) error {
	return func(ctx context.Context, o *ordeal) error {
		for _, i := range o.random.Perm(instances) {
			release := o.database.hold(down)
			pause(ctx, inFlight)
			p := o.programs[service][i]
			p.kill()
			release()
			pause(ctx, o.moment())
			if err := o.restart(ctx, p); err != nil {
				return err
			}
		}
		return nil
	}
}

// failOver kills one instance of each service, chosen for each, and starts them
// again after a while.
func failOver(ctx context.Context, o *ordeal) error {
	var victims []*process
	for _, name := range serviceNames() {
		victims = append(victims, o.programs[name][o.random.IntN(instances)])
	}
	var dying sync.WaitGroup
	for _, p := range victims {
		dying.Go(p.kill)
	}
	dying.Wait()
	pause(ctx, o.options.Pause)
	for _, p := range victims {
		if err := o.restart(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// restart starts what was killed.
func (o *ordeal) restart(ctx context.Context, p *process) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return p.start()
}

// moment is a short while, up to a fifth of a pause.
func (o *ordeal) moment() time.Duration {
	return time.Duration(o.random.Float64() * float64(o.options.Pause) / 5)
}

func pauseInstances(service string) func(context.Context, *ordeal) error {
	return func(ctx context.Context, o *ordeal) error {
		for _, i := range o.random.Perm(instances) {
			if err := o.standStill(ctx, o.programs[service][i]); err != nil {
				return err
			}
		}
		return nil
	}
}

// standStill stops programs, all at once, for a pause.
func (o *ordeal) standStill(ctx context.Context, programs ...*process) (err error) {
	var stopped []*process
	defer func() {
		for _, p := range stopped {
			err = errors.Join(err, p.resume())
		}
	}()
	for _, p := range programs {
		if err := p.stop(); err != nil {
			return err
		}
		stopped = append(stopped, p)
	}
	pause(ctx, o.options.Pause)
	return nil
}

func killService(service string) func(context.Context, *ordeal) error {
	return func(ctx context.Context, o *ordeal) error {
		return o.killService(ctx, service, o.moment())
	}
}

func (o *ordeal) killService(ctx context.Context, service string, away time.Duration) error {
	if _, err := o.services.do(ctx, "kill", service); err != nil {
		return err
	}
	pause(ctx, away)
	_, err := o.services.do(ctx, "start", service)
	return err
}

func brokerOutage(ctx context.Context, o *ordeal) error {
	return o.killService(ctx, "broker", o.options.Outage)
}

func pauseService(service string) func(context.Context, *ordeal) error {
	return func(ctx context.Context, o *ordeal) error {
		if _, err := o.services.do(ctx, "pause", service); err != nil {
			return err
		}
		pause(ctx, o.options.Pause)
		_, err := o.services.do(ctx, "resume", service)
		return err
	}
}

func (o *ordeal) proxies() []*proxy { return []*proxy{o.broker, o.database} }

// meanwhile does harm at both proxies for a pause.
func (o *ordeal) meanwhile(ctx context.Context, harm func(*proxy) (heal func())) {
	for _, p := range o.proxies() {
		heal := harm(p)
		defer heal() //nolint:gocritic // there are two, and both last to the end
	}
	pause(ctx, o.options.Pause)
}

func cutConnections(ctx context.Context, o *ordeal) error {
	for range times {
		for _, p := range o.proxies() {
			p.cut()
		}
		pause(ctx, o.moment())
	}
	return nil
}

func delayConnections(ctx context.Context, o *ordeal) error {
	o.meanwhile(ctx, func(p *proxy) (heal func()) {
		return p.delay(func() time.Duration {
			return leastDelay + rand.N(mostDelay-leastDelay) //nolint:gosec // a delay
		})
	})
	return nil
}

func halfOpenConnections(ctx context.Context, o *ordeal) error {
	for _, d := range o.random.Perm(2) {
		o.meanwhile(ctx, func(p *proxy) (heal func()) { return p.swallow(direction(d)) })
	}
	return nil
}

func purgeQueues(ctx context.Context, o *ordeal) error {
	for range times {
		// Queues that are one connection's alone can be emptied only from inside; one
		// that has just gone does not matter.
		const purge = "length([ok || Q <- rabbit_amqqueue:list(), {ok, _} <- [catch rabbit_amqqueue:purge(Q)]])."
		emptied, err := o.services.do(ctx, "rabbitmqctl", "eval", purge)
		if n, bad := strconv.Atoi(strings.TrimSpace(emptied)); err == nil && (bad != nil || n == 0) {
			err = fmt.Errorf("the broker answers %q, and not how many it has emptied", emptied)
		}
		if err != nil {
			return fmt.Errorf("empty all queues: %w", err)
		}
		pause(ctx, o.moment())
	}
	return nil
}

func overflowQueues(ctx context.Context, o *ordeal) (err error) {
	const policy = "chaos-overflow"
	if _, err := o.services.do(ctx, "rabbitmqctl", "set_policy", policy, ".*", fmt.Sprintf(`{"max-length":%d}`, fullAt), "--apply-to", "queues"); err != nil {
		return fmt.Errorf("bound the queues: %w", err)
	}
	defer func() {
		_, undo := o.services.do(context.WithoutCancel(ctx), "rabbitmqctl", "clear_policy", policy)
		err = errors.Join(err, undo)
	}()
	return o.standStill(ctx, o.programs[projectionsService]...)
}

func clockBack(ctx context.Context, o *ordeal) error {
	o.writer.set(-back)
	pause(ctx, o.options.Pause)
	o.writer.set(0)
	return nil
}
