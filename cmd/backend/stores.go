package backend

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/bus/inproc"
	"github.com/meet5/backend/events/bus/rabbit"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/events/subscription/boltledger"
	"github.com/meet5/backend/events/subscription/mongoledger"
	"github.com/meet5/backend/fraud"
	"github.com/meet5/backend/fraud/labels"
	"github.com/meet5/backend/fraud/side/boltside"
	"github.com/meet5/backend/fraud/side/mongoside"
	"github.com/meet5/backend/fraud/side/snapshotdir"
	"github.com/meet5/backend/migrations"
	"github.com/meet5/backend/projections/memstore"
	"github.com/meet5/backend/projections/mongostore"
	"github.com/meet5/backend/projections/versions"
	"github.com/meet5/backend/projections/views"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/service/vault/boltvault"
	"github.com/meet5/backend/service/vault/mongovault"
)

const (
	// connectTimeout bounds how long a real service may take to answer at start.
	connectTimeout = 10 * time.Second
	// queryTimeout bounds one query of whoever sets no deadline: a server that is
	// frozen must not hold anybody for ever.
	queryTimeout = 10 * time.Second
	// MigrationTimeout bounds a run of migrations; building an index takes its
	// time.
	MigrationTimeout = time.Hour
)

// Where says where the data lives: in files of a folder, or on real services.
type Where struct {
	// Data is the folder of the embedded stores. It is made if it is not there.
	Data string
	// Mongo and AMQP are the URIs of the real services. Both are set or none.
	Mongo, AMQP string
	// Prefix begins the names of the MongoDB databases and of what is declared
	// on the broker; migrations.DefaultPrefix if empty.
	Prefix string
	// Snapshots is the folder of the fraud service's snapshots, a cache. If empty, it
	// is one in Data, and on real services there is none.
	Snapshots string
	// ReadOnly makes nothing: databases that are not there, or not up to date, are
	// an error.
	ReadOnly bool
}

// Real says whether the data lives on real services.
func (w Where) Real() bool { return w.Mongo != "" }

// Validate reports the first fault.
func (w Where) Validate() error {
	switch {
	case w.Mongo != "" && w.AMQP == "":
		return errors.New("--mongo needs --amqp too")
	case w.Mongo == "" && w.AMQP != "":
		return errors.New("--amqp needs --mongo too")
	case w.Mongo == "" && w.Data == "":
		return errors.New("--data, or --mongo and --amqp, is needed")
	}
	return nil
}

// Empty says that the folder holds no data: Open would make it. Real services are
// not asked, and never empty.
func (w Where) Empty() bool {
	if w.Real() {
		return false
	}
	_, err := os.Stat(filepath.Join(w.Data, logFile))
	return errors.Is(err, fs.ErrNotExist)
}

// Files of the data folder. Those of the services are worth nothing without the logs.
const (
	logFile      = "log.db"
	userFile     = "user.db"
	activityFile = "activity.db"
	fraudFile    = "fraud.db"
	// fraudKeysFile has the keys of what is written about flagged users.
	fraudKeysFile = "fraud-keys.db"
	// snapshotFolder is a cache: it may be deleted.
	snapshotFolder = "snapshots"
)

// Stores are what the services keep their data in. Close lets go of them.
type Stores struct {
	User, Activity, Fraud log.Store
	// Vault is the user service's, FraudVault the fraud service's.
	Vault, FraudVault vault.Vault
	Labels            labels.Store
	// Snapshots are the fraud service's; may be nil.
	Snapshots fraud.Snapshots
	// Views are the read models in memory; Versions those on MongoDB. One of the two
	// is nil.
	Views    views.Store
	Versions *versions.Registry

	// Ledgers keep how far the subscriptions that outlive their process have come,
	// and what is parked, by the name of the service. Projections have none where
	// read models are in memory; fraud-keys is that of the fraud service's vault where
	// that is a file of its own.
	Ledgers map[string]subscription.Ledger

	Publisher message.Publisher
	Follow    bus.Follow
	// Unrouted and Rejected count messages on the broker; nil without one.
	Unrouted, Rejected func() uint64

	mu      sync.Mutex // guards closers
	closers []func() error
}

// Close closes what was opened, last first.
func (s *Stores) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

func (s *Stores) onClose(f func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closers = append(s.closers, f)
}

// Open opens the stores. On real services it brings the databases up to date
// first. The caller closes them.
func Open(ctx context.Context, w Where, logger *slog.Logger) (*Stores, error) {
	if err := w.Validate(); err != nil {
		return nil, err
	}
	s := &Stores{}
	open := s.openFiles
	if w.Real() {
		open = s.openServices
	} else if w.Snapshots == "" {
		w.Snapshots = filepath.Join(w.Data, snapshotFolder)
	}
	if w.Snapshots != "" {
		s.Snapshots = snapshotdir.Open(w.Snapshots)
	}
	if err := open(ctx, w, logger); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Stores) openFiles(ctx context.Context, w Where, logger *slog.Logger) error {
	if err := os.MkdirAll(w.Data, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	db, err := boltlog.Open(filepath.Join(w.Data, logFile))
	if err != nil {
		return err
	}
	s.onClose(db.Close)
	for _, f := range db.Faults() {
		logger.WarnContext(ctx, "the data file is harmed, and can be used all the same; `meet5 verify` says more", "file", logFile, "fault", f)
	}
	for _, l := range []struct {
		name       string
		partitions int
		to         *log.Store
	}{
		{events.UserLog, events.UserPartitions, &s.User},
		{events.ActivityLog, events.ActivityPartitions, &s.Activity},
		{events.FraudLog, events.FraudPartitions, &s.Fraud},
	} {
		if *l.to, err = db.Log(l.name, l.partitions); err != nil {
			return err
		}
	}
	v, err := boltvault.Open(filepath.Join(w.Data, userFile))
	if err != nil {
		return err
	}
	s.onClose(v.Close)
	f, err := boltside.Open(filepath.Join(w.Data, fraudFile))
	if err != nil {
		return err
	}
	s.onClose(f.Close)
	k, err := boltvault.Open(filepath.Join(w.Data, fraudKeysFile))
	if err != nil {
		return err
	}
	s.onClose(k.Close)
	b := inproc.New(inproc.Config{})
	s.onClose(b.Close)
	a, err := boltledger.Open(filepath.Join(w.Data, activityFile))
	if err != nil {
		return err
	}
	s.onClose(a.Close)
	s.Vault, s.FraudVault, s.Labels, s.Views = v, k, f, memstore.New()
	s.Ledgers = map[string]subscription.Ledger{"activity": a, "fraud": f.Ledger(), "fraud-keys": k.Ledger(), "user": v.Ledger()}
	s.Publisher, s.Follow = b, func(string) (message.Subscriber, error) { return b, nil }
	return nil
}

// Connect reaches a MongoDB server and names the installation's databases.
func Connect(ctx context.Context, w Where) (migrations.Databases, *mongo.Client, error) {
	client, err := mongo.Connect(options.Client().ApplyURI(w.Mongo).SetAppName("meet5").SetServerSelectionTimeout(connectTimeout).SetTimeout(queryTimeout))
	if err != nil {
		return migrations.Databases{}, nil, fmt.Errorf("--mongo: %w", err)
	}
	pinging, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := client.Ping(pinging, nil); err != nil {
		return migrations.Databases{}, nil, errors.Join(fmt.Errorf("reach MongoDB: %w", err), client.Disconnect(ctx))
	}
	prefix := w.Prefix
	if prefix == "" {
		prefix = migrations.DefaultPrefix
	}
	dbs, err := migrations.Open(client, prefix)
	if err != nil {
		return dbs, nil, errors.Join(err, client.Disconnect(ctx))
	}
	return dbs, client, nil
}

// Migrations makes the runner of all steps: the logs', then each service's. A new
// step goes at the end, with the next version, whatever it is for.
func Migrations(dbs migrations.Databases, logger *slog.Logger) (*migrations.Runner, error) {
	return migrations.New(dbs, migrations.Options{Logger: logger, Steps: append(migrations.Steps(),
		migrations.Step{Version: 5, Name: "create the user service's vault", Up: func(ctx context.Context, d migrations.Databases) error {
			return mongovault.Create(ctx, d.User)
		}},
		migrations.Step{Version: 6, Name: "create the read models", Up: func(ctx context.Context, d migrations.Databases) error {
			return mongostore.Create(ctx, d.Projections)
		}},
		migrations.Step{Version: 7, Name: "create the fraud service's labels and checkpoints", Up: func(ctx context.Context, d migrations.Databases) error {
			return mongoside.Create(ctx, d.Fraud)
		}},
		migrations.Step{Version: 8, Name: "create the ledgers of subscriptions", Up: func(ctx context.Context, d migrations.Databases) error {
			for service, db := range ledgers(d) {
				if err := mongoledger.Create(ctx, db); err != nil {
					return fmt.Errorf("of the %s service: %w", service, err)
				}
			}
			return nil
		}},
		migrations.Step{Version: 9, Name: "index only those commits that hold keys", Up: func(ctx context.Context, d migrations.Databases) error {
			for name, partitions := range map[string]int{events.UserLog: events.UserPartitions, events.ActivityLog: events.ActivityPartitions, events.FraudLog: events.FraudPartitions} {
				if err := mongolog.Create(ctx, d.Log, name, partitions); err != nil {
					return err
				}
			}
			return nil
		}},
		migrations.Step{Version: 10, Name: "create the fraud service's vault, and what shared keys are found by", Up: func(ctx context.Context, d migrations.Databases) error {
			for service, db := range map[string]*mongo.Database{"fraud": d.Fraud, "user": d.User} {
				if err := mongovault.Create(ctx, db); err != nil {
					return fmt.Errorf("of the %s service: %w", service, err)
				}
			}
			return nil
		}},
	)})
}

// ledgers says in which database each service has its ledger.
func ledgers(d migrations.Databases) map[string]*mongo.Database {
	return map[string]*mongo.Database{"activity": d.Activity, "fraud": d.Fraud, "projections": d.Projections, "user": d.User}
}

func (s *Stores) openServices(ctx context.Context, w Where, logger *slog.Logger) error {
	dbs, client, err := Connect(ctx, w)
	if err != nil {
		return err
	}
	s.onClose(func() error { return client.Disconnect(context.WithoutCancel(ctx)) })
	runner, err := Migrations(dbs, logger)
	if err != nil {
		return err
	}
	users := mongolog.Open(dbs.Log, events.UserLog, events.UserPartitions)
	activities := mongolog.Open(dbs.Log, events.ActivityLog, events.ActivityPartitions)
	flags := mongolog.Open(dbs.Log, events.FraudLog, events.FraudPartitions)
	if w.ReadOnly {
		for _, l := range []*mongolog.Store{users, activities, flags} {
			if err := l.Check(ctx); err != nil {
				return err
			}
		}
	} else {
		migrating, cancel := context.WithTimeout(ctx, MigrationTimeout)
		defer cancel()
		if _, err := runner.Up(migrating); err != nil {
			return fmt.Errorf("bring the databases up to date: %w", err)
		}
	}
	s.User, s.Activity, s.Fraud = users, activities, flags
	s.Ledgers = make(map[string]subscription.Ledger)
	for service, db := range ledgers(dbs) {
		s.Ledgers[service] = mongoledger.Open(db)
	}
	s.Vault, s.FraudVault, s.Labels = mongovault.Open(dbs.User), mongovault.Open(dbs.Fraud), mongoside.Open(dbs.Fraud)
	s.Versions = versions.Open(dbs.Projections, s.Ledgers["projections"], versions.Options{Logger: logger})

	cfg := rabbit.Config{URI: w.AMQP, Logger: logger, Check: bus.Check}
	if w.Prefix != "" {
		cfg.Topology = rabbit.PrefixTopology(w.Prefix)
	}
	publisher, err := rabbit.NewPublisher(cfg)
	if err != nil {
		return err
	}
	s.onClose(publisher.Close)
	s.Publisher, s.Unrouted = publisher, publisher.Unrouted
	var mu sync.Mutex
	var subscribers []*rabbit.Subscriber
	s.Follow = func(group string) (message.Subscriber, error) {
		cfg := cfg
		cfg.Group = group
		subscriber, err := rabbit.NewSubscriber(cfg)
		if err != nil {
			return nil, err
		}
		s.onClose(subscriber.Close)
		mu.Lock()
		defer mu.Unlock()
		subscribers = append(subscribers, subscriber)
		return subscriber, nil
	}
	s.Rejected = func() (sum uint64) {
		mu.Lock()
		defer mu.Unlock()
		for _, subscriber := range subscribers {
			sum += subscriber.Rejected()
		}
		return sum
	}
	return nil
}
