// Command user is the user service on MongoDB and RabbitMQ.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/bus/rabbit"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/service/config"
	"github.com/meet5/backend/service/health"
	"github.com/meet5/backend/service/metrics"
	"github.com/meet5/backend/service/run"
	"github.com/meet5/backend/user"
	"github.com/meet5/backend/user/vault/mongovault"
)

const (
	// patience is how long the databases may take to be there and migrated.
	patience = time.Minute
	// lookEvery is how often they are looked at meanwhile.
	lookEvery = time.Second
	// mongoTimeout bounds the search for a server, so that an outage is told to
	// clients before they give up.
	mongoTimeout = 3 * time.Second
)

type flags struct {
	Listen        string `help:"Address to serve on." default:":8080" env:"MEET5_LISTEN"`
	Mongo         string `help:"URI of MongoDB." placeholder:"URI" env:"MEET5_MONGO"`
	AMQP          string `name:"amqp" help:"URI of RabbitMQ." placeholder:"URI" env:"MEET5_AMQP"`
	Prefix        string `help:"Beginning of the names of databases, exchanges and queues." default:"meet5" env:"MEET5_PREFIX"`
	AdminEmail    string `help:"E-mail of the first admin, on a first start." env:"MEET5_ADMIN_EMAIL"`
	AdminPassword string `help:"Password of the first admin, on a first start." env:"MEET5_ADMIN_PASSWORD"`
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
	return errors.Join(faults...)
}

func main() { run.Main("user", realMain) }

func realMain(ctx context.Context) (err error) {
	var f flags
	if err := config.Parse(&f, "user", "The user service: accounts, sessions and keys.", os.Args[1:], os.Stdout); err != nil {
		return err
	}
	logger := f.Logger(os.Stderr, "user")

	client, err := mongo.Connect(options.Client().ApplyURI(f.Mongo).SetAppName("meet5-user").SetServerSelectionTimeout(mongoTimeout))
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
	var subscribers []*rabbit.Subscriber
	defer func() {
		for _, s := range subscribers {
			err = errors.Join(err, s.Close())
		}
	}()

	db := client.Database(f.Prefix + "_log")
	store := mongolog.Open(db, events.UserLog, events.UserPartitions)
	if err := waitUntilReady(ctx, store, logger); err != nil {
		return err
	}
	feed := bus.NewFeed(publisher, bus.FeedOptions{Logger: logger})
	users := log.New(store, log.Options{Committed: feed.Offer})
	defer users.Close()

	registry := metrics.NewRegistry()
	service, err := user.New(user.Config{AdminEmail: f.AdminEmail, AdminPassword: f.AdminPassword}, user.Deps{
		Log:   users,
		Fraud: mongolog.Open(db, events.FraudLog, events.FraudPartitions),
		Vault: mongovault.Open(client.Database(f.Prefix + "_user")),
		Follow: func(group string) (message.Subscriber, error) {
			grouped := broker
			grouped.Group = group
			s, err := rabbit.NewSubscriber(grouped)
			if err == nil {
				subscribers = append(subscribers, s)
			}
			return s, err
		},
		Logger:  logger,
		Metrics: registry,
	})
	if err != nil {
		return &run.UsageError{Err: err}
	}

	checks := health.New(logger)
	service.AddChecks(checks)
	mux := http.NewServeMux()
	mux.Handle("GET /livez", checks.Live())
	mux.Handle("GET /readyz", checks.Ready())
	mux.Handle("GET /metrics", metrics.Handler(registry))
	mux.Handle("/", service.Handler())
	return run.Group(ctx, feed.Run, service.Run, func(ctx context.Context) error {
		return run.HTTP(ctx, run.Server{Addr: f.Listen, Handler: mux, Logger: logger})
	})
}

// waitUntilReady waits for the log to be there with the indexes that its
// promises rest on, since services may start in any order.
func waitUntilReady(ctx context.Context, store *mongolog.Store, logger *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for told := false; ; told = true {
		err := store.Check(ctx)
		if err == nil {
			return nil
		}
		if !told {
			logger.WarnContext(ctx, "the user log is not ready, waiting", "for_up_to", patience, "error", err)
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}
