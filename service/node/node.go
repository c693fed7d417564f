// Package node is what a service that runs by itself shares with the others: its
// flags, its connections to MongoDB and RabbitMQ, the logs on them, and the order
// in which all of it starts and drains.
//
// It promises that services start in any order: a node waits for its logs to be
// there and migrated, and for the broker and the keys of tokens it does not even
// wait. A node drains from the outside in: requests, then what follows the logs,
// then the logs' writers, and last the feed, which announces what is left.
package node

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
	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/bus/rabbit"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/service/config"
	"github.com/meet5/backend/service/health"
	"github.com/meet5/backend/service/metrics"
	"github.com/meet5/backend/service/operate"
	"github.com/meet5/backend/service/run"
	"github.com/meet5/backend/service/token"
)

const (
	// patience is how long the databases may take to be there and migrated.
	patience = time.Minute
	// lookEvery is how often they are looked at meanwhile.
	lookEvery = time.Second
	// mongoTimeout bounds the search for a server, so that an outage is told to
	// clients before they give up.
	mongoTimeout = 3 * time.Second
	// queryTimeout bounds one query of whoever sets no deadline: a server that is
	// frozen must not hold anybody for ever.
	queryTimeout = 10 * time.Second
	// jwksTimeout bounds one read of the keys that tokens are signed with.
	jwksTimeout = 5 * time.Second
)

// Flags are where a node finds what it needs.
type Flags struct {
	Listen string `help:"Address to serve on." default:":8080" env:"MEET5_LISTEN"`
	Mongo  string `help:"URI of MongoDB." placeholder:"URI" env:"MEET5_MONGO"`
	AMQP   string `name:"amqp" help:"URI of RabbitMQ." placeholder:"URI" env:"MEET5_AMQP"`
	Prefix string `help:"Beginning of the names of databases, exchanges and queues." default:"meet5" env:"MEET5_PREFIX"`
	config.Logging
}

// Validate reports every flag that is missing.
func (f *Flags) Validate() error {
	var faults []error
	if f.Mongo == "" {
		faults = append(faults, config.Required("mongo", "MEET5_MONGO"))
	}
	if f.AMQP == "" {
		faults = append(faults, config.Required("amqp", "MEET5_AMQP"))
	}
	return errors.Join(faults...)
}

// Keys are where a node finds the keys of tokens.
type Keys struct {
	UserURL []string `help:"Instances of the user service, with commas between them." placeholder:"URL,…" env:"MEET5_USER_URL"`
	JWKSURL []string `name:"jwks-url" help:"URLs of the keys that tokens are signed with; by default those of the user service." placeholder:"URL,…" env:"MEET5_JWKS_URL"`
	Issuer  string   `help:"The iss of tokens, as the user service was told." placeholder:"URL" env:"MEET5_ISSUER"`
}

// Validate says if neither is given.
func (k *Keys) Validate() error {
	if len(k.UserURL) == 0 && len(k.JWKSURL) == 0 {
		return config.Required("jwks-url", "MEET5_JWKS_URL")
	}
	return nil
}

// Verifier checks tokens with those keys. They are read when the first token
// comes.
func (k *Keys) Verifier() *token.Verifier {
	return token.NewVerifier(token.NewRemoteKeySet(k.urls(), &http.Client{Timeout: jwksTimeout}, time.Now), time.Now, k.Issuer)
}

func (k *Keys) urls() []string {
	if len(k.JWKSURL) > 0 {
		return k.JWKSURL
	}
	urls := make([]string, len(k.UserURL))
	for i, base := range k.UserURL {
		urls[i] = strings.TrimSuffix(strings.TrimSpace(base), "/") + "/.well-known/jwks.json"
	}
	return urls
}

// Service is what runs on a node.
type Service interface {
	Handler() http.Handler
	Run(ctx context.Context) error
	AddChecks(r *health.Registry)
}

// Node is the surroundings of one service.
type Node struct {
	Logger  *slog.Logger
	Metrics *prometheus.Registry
	// OnListen, if set, is told the address that is served on.
	OnListen func(net.Addr)

	flags     Flags
	client    *mongo.Client
	broker    rabbit.Config
	publisher *rabbit.Publisher
	feed      *bus.Feed

	mu          sync.Mutex
	needs       []need
	writers     []*log.Log
	subscribers []*rabbit.Subscriber
}

// need is something that must be there before a node serves.
type need struct {
	what  string
	check func(context.Context) error
}

// New prepares a node for the service called name. It does no I/O.
func New(name string, f Flags) (*Node, error) {
	n := &Node{Logger: f.Logger(os.Stderr, name), Metrics: metrics.NewRegistry(), flags: f}
	var err error
	if n.client, err = mongo.Connect(options.Client().ApplyURI(f.Mongo).SetAppName("meet5-" + name).SetServerSelectionTimeout(mongoTimeout).SetTimeout(queryTimeout)); err != nil {
		return nil, &run.UsageError{Err: fmt.Errorf("--mongo: %w", err)}
	}
	n.broker = rabbit.Config{URI: f.AMQP, Topology: rabbit.PrefixTopology(f.Prefix), Logger: n.Logger, Check: bus.Check}
	if n.publisher, err = rabbit.NewPublisher(n.broker); err != nil {
		return nil, &run.UsageError{Err: fmt.Errorf("--amqp: %w", err)}
	}
	n.feed = bus.NewFeed(n.publisher, bus.FeedOptions{Logger: n.Logger})
	traffic := operate.Bus{Feed: n.feed, Unrouted: n.publisher.Unrouted, Rejected: n.rejected}
	return n, traffic.Register(n.Metrics)
}

// rejected counts the messages that were no commits.
func (n *Node) rejected() (sum uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.subscribers {
		sum += s.Rejected()
	}
	return sum
}

// Database is the database of one concern, "<prefix>_<concern>".
func (n *Node) Database(concern string) *mongo.Database {
	return n.client.Database(n.flags.Prefix+"_"+concern, options.Database().
		SetWriteConcern(writeconcern.Majority()).SetReadConcern(readconcern.Majority()).SetReadPreference(readpref.Primary()))
}

// Await makes Run wait until check finds what it looks for, collections and
// indexes say.
func (n *Node) Await(what string, check func(context.Context) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.needs = append(n.needs, need{what, check})
}

// Reader is a log to read. Run waits until it is there.
func (n *Node) Reader(name string, partitions int) *mongolog.Store {
	s := mongolog.Open(n.Database("log"), name, partitions)
	n.Await("the "+name+" log", s.Check)
	return s
}

// Log is a log to append to; what is appended is announced on the bus.
func (n *Node) Log(name string, partitions int) *log.Log {
	l := log.New(n.Reader(name, partitions), log.Options{Committed: n.feed.Offer, Linger: log.DefaultLinger})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.writers = append(n.writers, l)
	return l
}

// Follow makes the subscriber of a group. It is a bus.Follow.
func (n *Node) Follow(group string) (message.Subscriber, error) {
	c := n.broker
	c.Group = group
	s, err := rabbit.NewSubscriber(c)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.subscribers = append(n.subscribers, s)
	return s, nil
}

// Run serves until ctx ends, then drains and closes the node.
func (n *Node) Run(ctx context.Context, s Service) (err error) {
	defer func() { err = errors.Join(err, n.Close()) }()
	if err := n.waitUntilReady(ctx); err != nil {
		return err
	}
	checks := health.New(n.Logger)
	s.AddChecks(checks)
	mux := http.NewServeMux()
	mux.Handle("GET /livez", checks.Live())
	mux.Handle("GET /readyz", checks.Ready())
	mux.Handle("GET /metrics", metrics.Handler(n.Metrics))
	mux.Handle("/", s.Handler())

	following, stopFollowing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFollowing()
	feeding, stopFeeding := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFeeding()
	return run.Group(ctx,
		func(ctx context.Context) error {
			defer stopFollowing()
			return run.HTTP(ctx, run.Server{Addr: n.flags.Listen, Handler: mux, Logger: n.Logger, OnListen: n.OnListen})
		},
		func(context.Context) error {
			defer stopFeeding()
			defer n.closeWriters()
			return s.Run(following)
		},
		func(context.Context) error { return n.feed.Run(feeding) },
	)
}

// waitUntilReady waits for what the node needs, the logs with the indexes that
// their promises rest on first of all.
func (n *Node) waitUntilReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	told := false
	for _, need := range n.needs {
		for err := need.check(ctx); err != nil; err = need.check(ctx) {
			if !told {
				told = true
				n.Logger.WarnContext(ctx, need.what+" is not ready, waiting", "for_up_to", patience, "error", err)
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

func (n *Node) closeWriters() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.writers {
		l.Close()
	}
	n.writers = nil
}

// Close lets go of everything. Run calls it.
func (n *Node) Close() error {
	n.closeWriters()
	n.mu.Lock()
	defer n.mu.Unlock()
	errs := []error{n.publisher.Close()}
	for _, s := range n.subscribers {
		errs = append(errs, s.Close())
	}
	n.subscribers = nil
	ctx, cancel := context.WithTimeout(context.Background(), mongoTimeout)
	defer cancel()
	return errors.Join(append(errs, n.client.Disconnect(ctx))...)
}
