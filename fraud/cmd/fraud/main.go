// Command fraud is the fraud service on MongoDB and RabbitMQ.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/bus/rabbit"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/fraud"
	"github.com/meet5/backend/fraud/side/mongoside"
	"github.com/meet5/backend/service/config"
	"github.com/meet5/backend/service/metrics"
	"github.com/meet5/backend/service/run"
	"github.com/meet5/backend/service/token"
)

const (
	// patience is how long the logs may take to be there and migrated.
	patience = time.Minute
	// lookEvery is how often they are looked at meanwhile.
	lookEvery = time.Second
	// mongoTimeout bounds the search for a server, so that an outage is told to
	// clients before they give up.
	mongoTimeout = 3 * time.Second
	// jwksTimeout bounds one read of the keys that tokens are signed with.
	jwksTimeout = 5 * time.Second
)

type flags struct {
	Listen  string `help:"Address to serve on." default:":8080" env:"MEET5_LISTEN"`
	Mongo   string `help:"URI of MongoDB." placeholder:"URI" env:"MEET5_MONGO"`
	AMQP    string `name:"amqp" help:"URI of RabbitMQ." placeholder:"URI" env:"MEET5_AMQP"`
	Prefix  string `help:"Beginning of the names of databases, exchanges and queues." default:"meet5" env:"MEET5_PREFIX"`
	UserURL string `help:"Base URL of the user service; of a list, the first is taken." placeholder:"URL" env:"MEET5_USER_URL"`
	JWKSURL string `name:"jwks-url" help:"URL of the keys that tokens are signed with; by default those of the user service." placeholder:"URL" env:"MEET5_JWKS_URL"`
	config.Logging
}

// Validate implements what config.Parse calls.
func (f *flags) Validate() error {
	var faults []error
	if f.Mongo == "" {
		faults = append(faults, config.Required("mongo", "MEET5_MONGO"))
	}
	if f.AMQP == "" {
		faults = append(faults, config.Required("amqp", "MEET5_AMQP"))
	}
	if f.UserURL == "" && f.JWKSURL == "" {
		faults = append(faults, config.Required("jwks-url", "MEET5_JWKS_URL"))
	}
	return errors.Join(faults...)
}

// jwks is where the keys are that tokens are signed with.
func (f *flags) jwks() string {
	if f.JWKSURL != "" {
		return f.JWKSURL
	}
	first, _, _ := strings.Cut(f.UserURL, ",")
	return strings.TrimSuffix(strings.TrimSpace(first), "/") + "/.well-known/jwks.json"
}

func main() { run.Main("fraud", realMain) }

func realMain(ctx context.Context) error {
	var f flags
	if err := config.Parse(&f, "fraud", "The fraud service: runs rules, and lets moderators decide.", os.Args[1:], os.Stdout); err != nil {
		return err
	}
	return assemble(ctx, f, f.Logger(os.Stderr, "fraud"), nil)
}

// assemble connects everything and serves until ctx ends. onListen, which may be
// nil, is told the address.
func assemble(ctx context.Context, f flags, logger *slog.Logger, onListen func(net.Addr)) (err error) {
	client, err := mongo.Connect(options.Client().ApplyURI(f.Mongo).SetAppName("meet5-fraud").SetServerSelectionTimeout(mongoTimeout))
	if err != nil {
		return fmt.Errorf("--mongo: %w", err)
	}
	defer func() { err = errors.Join(err, client.Disconnect(context.WithoutCancel(ctx))) }()
	broker := rabbit.Config{URI: f.AMQP, Topology: rabbit.PrefixTopology(f.Prefix), Logger: logger}
	publisher, err := rabbit.NewPublisher(broker)
	if err != nil {
		return fmt.Errorf("--amqp: %w", err)
	}
	defer func() { err = errors.Join(err, publisher.Close()) }()
	follow := &followers{config: broker}
	defer func() { err = errors.Join(err, follow.close()) }()

	logs := client.Database(f.Prefix + "_log")
	flagStore := mongolog.Open(logs, events.FraudLog, events.FraudPartitions)
	activityStore := mongolog.Open(logs, events.ActivityLog, events.ActivityPartitions)
	if err := waitUntilReady(ctx, logger, flagStore, activityStore); err != nil {
		return err
	}
	feed := bus.NewFeed(publisher, bus.FeedOptions{Logger: logger})
	fraudLog := log.New(flagStore, log.Options{Committed: feed.Offer})

	// The keys are read when the first token comes: services start in any order.
	keys := token.NewRemoteKeySet(f.jwks(), &http.Client{Timeout: jwksTimeout}, time.Now)
	service, err := fraud.New(fraud.Config{}, fraud.Deps{
		Log: fraudLog, Activity: activityStore, Follow: follow.group,
		Checkpoints: mongoside.Open(client.Database(f.Prefix + "_fraud")),
		Verifier:    token.NewVerifier(keys, time.Now),
		Logger:      logger, Metrics: metrics.NewRegistry(),
	})
	if err != nil {
		fraudLog.Close()
		return err
	}
	server := run.Server{Addr: f.Listen, Handler: service.Handler(), Logger: logger, OnListen: onListen}
	return serve(ctx, server, feed, fraudLog, service)
}

// serve runs until ctx ends, then drains from the outside in: requests, the
// service that they need to be answered, its log, and last the feed, which
// publishes what is left.
func serve(ctx context.Context, server run.Server, feed *bus.Feed, fraudLog *log.Log, service *fraud.Service) error {
	following, stopFollowing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFollowing()
	feeding, stopFeeding := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFeeding()
	return run.Group(ctx,
		func(ctx context.Context) error {
			defer stopFollowing()
			return run.HTTP(ctx, server)
		},
		func(context.Context) error {
			defer stopFeeding()
			defer fraudLog.Close()
			return service.Run(following)
		},
		func(context.Context) error { return feed.Run(feeding) },
	)
}

// followers makes subscribers, and closes them all.
type followers struct {
	config rabbit.Config

	mu   sync.Mutex
	made []*rabbit.Subscriber
}

func (f *followers) group(group string) (message.Subscriber, error) {
	c := f.config
	c.Group = group
	s, err := rabbit.NewSubscriber(c)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made = append(f.made, s)
	return s, nil
}

func (f *followers) close() (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.made {
		err = errors.Join(err, s.Close())
	}
	return err
}

// waitUntilReady waits for the logs to be there with the indexes that their
// promises rest on.
func waitUntilReady(ctx context.Context, logger *slog.Logger, stores ...*mongolog.Store) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	told := false
	for _, store := range stores {
		for {
			err := store.Check(ctx)
			if err == nil {
				break
			}
			if !told {
				told = true
				logger.WarnContext(ctx, "a log is not ready, waiting", "log", store.Name(), "for_up_to", patience, "error", err)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return errors.Join(context.Cause(ctx), err)
			}
		}
	}
	return nil
}
