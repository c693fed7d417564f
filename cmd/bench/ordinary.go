package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill"
	wamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/bus/rabbit"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/events/subscription/mongoledger"
	"github.com/meet5/backend/projections/mongostore"
	"github.com/meet5/backend/projections/views"
)

const (
	// ordinaryEvents and ourEvents are how many events a turn of each side has; both
	// take some seconds.
	ordinaryEvents, ourEvents = 4_000, 40_000
	// ordinarySubscribers share the queue of the ordinary wiring.
	ordinarySubscribers = 4
)

// ordinary is from a caller's event to the read model, in events a second: ours over
// the log, the bus and a subscription, and the wiring that Watermill's users begin
// with, one message and one upsert an event. Each side has 16 callers with the same
// batches of 250; nearly every visit is of a new pair. It is no limit: ours should
// be far above it.
var ordinary = Work{
	Name:    "ordinary",
	Ours:    "16 callers in batches of 250: append, bus, subscription, read models, end to end",
	Limit:   "watermill-amqp: one confirmed message an event, a pool of 16 channels, four subscribers, one upsert a message",
	Figures: []Figure{{Unit: "events/s", Target: Target{Ratio: 10}}},
	Mongo:   true, AMQP: true,
	open: func(ctx context.Context, s *site) (turn, error) {
		drawn := newDrawn()
		ours, err := newOurWay(ctx, s)
		if err != nil {
			return nil, err
		}
		theirs, err := newOrdinaryWay(ctx, s)
		if err != nil {
			return nil, err
		}
		return alternate(
			func(ctx context.Context) (float64, error) {
				return ours(ctx, drawn.next(s.scaled(ourEvents, partitions)))
			},
			func(ctx context.Context) (float64, error) {
				return theirs(ctx, drawn.next(s.scaled(ordinaryEvents, partitions)))
			},
		), nil
	},
}

// drawn are visits without end.
type drawn struct {
	random *rand.Rand
	ids    numbers
}

func newDrawn() *drawn {
	return &drawn{random: rand.New(rand.NewPCG(seed, 1))} //nolint:gosec // the same every time
}

// next are n visits, parted.
func (d *drawn) next(n int) (parted [partitions][]events.Event) {
	for i := range n {
		e := eventOf(act{activity.Visit, d.random.IntN(20_000), 20_000 + d.random.IntN(20_000)}, d.ids.id(), i)
		p := events.PartitionOf(e.Stream, partitions)
		parted[p] = append(parted[p], e)
	}
	return parted
}

// way brings events into a read model and returns how many a second.
type way func(ctx context.Context, parted [partitions][]events.Event) (float64, error)

func total(parted [partitions][]events.Event) (n int) {
	for _, evs := range parted {
		n += len(evs)
	}
	return n
}

// newOurWay wires log, feed, bus, subscription and read models as cmd/backend does.
func newOurWay(ctx context.Context, s *site) (way, error) {
	store, err := newMongoLog(ctx, s.database("log"))
	if err != nil {
		return nil, err
	}
	db := s.database("views")
	if err := errors.Join(mongostore.Create(ctx, db), mongoledger.Create(ctx, db)); err != nil {
		return nil, err
	}
	read := mongostore.Open(db)
	to, err := s.newExchange("ours")
	if err != nil {
		return nil, err
	}
	publisher, err := rabbit.NewPublisher(to.cfg)
	if err != nil {
		return nil, err
	}
	s.onClose(func(context.Context) error { return publisher.Close() })
	subscriber, err := rabbit.NewSubscriber(to.cfg)
	if err != nil {
		return nil, err
	}
	s.onClose(func(context.Context) error { return subscriber.Close() })
	feed := bus.NewFeed(publisher, bus.FeedOptions{Logger: s.Logger})
	l := log.New(store, log.Options{Committed: feed.Offer, Linger: log.DefaultLinger})
	sub := subscription.New(subscription.Config{
		Log: l, Group: "bench", Bus: subscriber, Ledger: mongoledger.Open(db), Logger: s.Logger,
		Handler: views.Handler(read),
	})
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { _ = feed.Run(following) }) // both end with following
	running.Go(func() { _ = sub.Run(following) })
	s.onClose(func(context.Context) error {
		l.Close()
		stop()
		running.Wait()
		return nil
	})
	return func(ctx context.Context, parted [partitions][]events.Event) (float64, error) {
		n := total(parted)
		return clocked(func() (int, error) {
			if err := each(ctx, partitions, func(ctx context.Context, p int) error {
				for evs := parted[p]; len(evs) > 0; {
					k := min(batchEvents, len(evs))
					if _, err := l.Append(ctx, evs[:k]...); err != nil {
						return err
					}
					evs = evs[k:]
				}
				return nil
			}); err != nil {
				return 0, err
			}
			if err := sub.CatchUp(ctx); err != nil {
				return 0, err
			}
			if err := nothingParked(sub); err != nil {
				return 0, err
			}
			return n, nil
		})
	}, nil
}

// plain is an event as the ordinary wiring sends it.
type plain struct {
	Event    events.Event
	Position int64
}

// newOrdinaryWay wires a publisher, subscribers and a collection as the examples do.
func newOrdinaryWay(ctx context.Context, s *site) (way, error) {
	queue := s.prefix + "-ordinary"
	cfg := wamqp.NewDurableQueueConfig(s.AMQP)
	cfg.Queue.Arguments = amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}
	cfg.Publish.ConfirmDelivery, cfg.Publish.ChannelPoolSize = true, partitions
	cfg.Consume.Qos.PrefetchCount = rabbit.DefaultPrefetch
	conn, err := s.dial()
	if err != nil {
		return nil, err
	}
	s.onClose(func(context.Context) error {
		ch, err := conn.Channel()
		if err == nil {
			_, err = ch.QueueDelete(queue, false, false, false)
		}
		if err != nil {
			return fmt.Errorf("delete queue %s: %w", queue, err)
		}
		return nil
	})
	coll, err := newBareViews(ctx, s.database("ordinary"))
	if err != nil {
		return nil, err
	}
	publisher, err := wamqp.NewPublisher(cfg, watermill.NopLogger{})
	if err != nil {
		return nil, fmt.Errorf("ordinary publisher: %w", err)
	}
	s.onClose(func(context.Context) error { return publisher.Close() })
	done := make(chan error, ordinaryEvents) // one a message; a turn has no more
	for range ordinarySubscribers {
		subscriber, err := wamqp.NewSubscriber(cfg, watermill.NopLogger{})
		if err != nil {
			return nil, fmt.Errorf("ordinary subscriber: %w", err)
		}
		s.onClose(func(context.Context) error { return subscriber.Close() })
		messages, err := subscriber.Subscribe(context.WithoutCancel(ctx), queue)
		if err != nil {
			return nil, fmt.Errorf("ordinary subscriber: %w", err)
		}
		go func() { // it ends when the subscriber is closed
			for m := range messages {
				err := upsertOne(context.WithoutCancel(ctx), coll, m)
				m.Ack()
				done <- err
			}
		}()
	}
	var position atomic.Int64
	return func(ctx context.Context, parted [partitions][]events.Event) (float64, error) {
		n := total(parted)
		return clocked(func() (int, error) {
			var publishing sync.WaitGroup
			defer publishing.Wait()
			failed := make(chan error, 1)
			publishing.Go(func() {
				if err := each(ctx, partitions, func(_ context.Context, p int) error {
					return publishPlain(publisher, queue, parted[p], &position)
				}); err != nil {
					failed <- err
				}
			})
			for range n {
				select {
				case err := <-done:
					if err != nil {
						return 0, err
					}
				case err := <-failed:
					return 0, err
				case <-ctx.Done():
					return 0, ctx.Err()
				}
			}
			return n, nil
		})
	}, nil
}

// publishPlain sends one message an event.
func publishPlain(to message.Publisher, topic string, evs []events.Event, position *atomic.Int64) error {
	for len(evs) > 0 {
		k := min(batchEvents, len(evs))
		messages := make([]*message.Message, k)
		for i := range messages {
			payload, err := json.Marshal(plain{evs[i], position.Add(1)})
			if err != nil {
				return err
			}
			messages[i] = message.NewMessage(evs[i].ID.String(), payload)
		}
		if err := to.Publish(topic, messages...); err != nil {
			return fmt.Errorf("ordinary publisher: %w", err)
		}
		evs = evs[k:]
	}
	return nil
}

// upsertOne brings one message into the read model.
func upsertOne(ctx context.Context, coll *mongo.Collection, m *message.Message) error {
	var e plain
	if err := json.Unmarshal(m.Payload, &e); err != nil {
		return err
	}
	w, err := guardedUpsert(&e.Event, e.Position)
	if err != nil {
		return err
	}
	_, err = coll.UpdateOne(ctx, w.Filter, w.Update, options.UpdateOne().SetUpsert(true))
	if err != nil && !mongo.IsDuplicateKeyError(err) {
		return fmt.Errorf("ordinary upsert: %w", err)
	}
	return nil
}
