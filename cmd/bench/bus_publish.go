package bench

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/bus/rabbit"
)

const (
	// busEvents is how many events a commit on the bus has; it takes about 15 kB.
	busEvents = 100
	// busCall is how many commits one Publish call has: a feed that is busy hands
	// over all that is queued of a partition.
	busCall = 50
)

// busPublish is confirmed commits, in messages a second.
var busPublish = Work{
	Name:    "bus-publish",
	Ours:    "rabbit.Publisher, commits of 100 events (15 kB), confirmed, 16 callers of 50, one quorum queue a partition",
	Limit:   "bare amqp091-go on one channel, confirms pipelined with the same window, queues declared alike",
	Figures: []Figure{{Unit: "messages/s", Target: Target{Ratio: 0.7}}},
	AMQP:    true,
	open: func(_ context.Context, s *site) (turn, error) {
		commits, err := busCommits()
		if err != nil {
			return nil, err
		}
		ours, err := s.newExchange("ours")
		if err != nil {
			return nil, err
		}
		to, err := s.newExchange("bare")
		if err != nil {
			return nil, err
		}
		publisher, err := rabbit.NewPublisher(ours.cfg)
		if err != nil {
			return nil, err
		}
		s.onClose(func(context.Context) error { return publisher.Close() })
		bare, err := s.newBarePublisher(to)
		if err != nil {
			return nil, err
		}
		return alternate(
			func(ctx context.Context) (float64, error) {
				if err := ours.purge(); err != nil {
					return 0, err
				}
				return loop(ctx, partitions, s.For, func(ctx context.Context, p int) (int, error) {
					messages := make([]*message.Message, busCall)
					for i := range messages {
						messages[i] = bus.Message(commits[p])
						messages[i].SetContext(ctx)
					}
					return busCall, publisher.Publish(topic(p), messages...)
				})
			},
			func(ctx context.Context) (float64, error) {
				if err := to.purge(); err != nil {
					return 0, err
				}
				return clocked(func() (n int, err error) {
					for until := time.Now().Add(s.For); n == 0 || time.Now().Before(until); n++ {
						if err := bare.publish(ctx, commits[n%partitions]); err != nil {
							return n, err
						}
					}
					return n, bare.settle(ctx, len(bare.pending))
				})
			},
		), nil
	},
}

// busCommits is one commit of each partition.
func busCommits() (commits []events.Commit, err error) {
	commits = make([]events.Commit, partitions)
	for p := range commits {
		if commits[p], err = events.Encode(events.ActivityLog, p, 1, epoch, uuid.Max, visitsIn(p, busEvents, 1)); err != nil {
			return nil, err
		}
	}
	return commits, nil
}
