// Package rabbit carries Watermill messages over RabbitMQ 4, on amqp091-go.
//
// A topic is an exchange and a routing key: "activity.3" is key "3" of the topic
// exchange "meet5.activity". Every consumer group has one durable quorum queue a
// topic, read by one of its members at a time, so that order holds and another
// member takes over when that one goes. A subscriber without a group has queues
// of its own that end with its connection.
//
// It promises that
//   - Publish returns nil only after the broker has confirmed every message; the
//     confirms of one call, and of concurrent calls, are awaited together, with
//     at most Config.Window of them outstanding;
//   - messages of one call keep their order, and so do calls for one topic that
//     follow each other;
//   - during an outage Publish fails at once with ErrUnavailable, and no call
//     waits for ever: not for a connection, not for a confirm, not for a socket
//     that takes no bytes;
//   - a subscription has one message in flight until Ack or Nack; a message that
//     was nacked comes again, after a pause that grows;
//   - a message that Config.Check refuses is rejected once and holds up nothing;
//   - a queue or exchange that the broker has with other arguments is named, with
//     what differs and the way out (ErrOtherArguments); it is asked for again
//     calmly, and taken up once it is gone;
//   - publishers and subscriptions come back by themselves, declare again what
//     they need and go on;
//   - queues are bounded and drop from the head when they are full, and a message
//     that nobody follows is dropped and counted (or refused, with
//     Config.RequireRoute): the broker is fast, not safe, and whoever must not
//     miss anything reads the log.
package rabbit

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
)

// Defaults of Config.
const (
	// DefaultPrefix begins the name of every exchange and queue.
	DefaultPrefix = "meet5"
	// DefaultWindow is how many messages may await their confirm.
	DefaultWindow = 1000
	// DefaultPrefetch is how many messages the broker sends ahead of an Ack.
	// Beyond this, consuming gets no faster, and each may be a few megabytes.
	DefaultPrefetch = 64
	// DefaultMaxLength is how many messages a queue holds.
	DefaultMaxLength = 10_000
	// DefaultMaxLengthBytes is how many bytes of messages a queue holds.
	DefaultMaxLengthBytes = 64 << 20
	// DefaultDeliveryLimit is how often a message is given out again after its
	// consumer was lost, before the broker drops it. It is RabbitMQ's own
	// default, declared so that a policy elsewhere does not change it.
	DefaultDeliveryLimit = 20
	// DefaultTimeout bounds each wait for the broker.
	DefaultTimeout = 10 * time.Second
	// DefaultRedelivery is the pause before a nacked message comes again the
	// first time; it doubles up to DefaultMaxRedelivery.
	DefaultRedelivery    = 10 * time.Millisecond
	DefaultMaxRedelivery = time.Second
)

// maxWindow keeps the client's bookkeeping of outstanding confirms, which it
// searches through, small.
const maxWindow = 10_000

// maxPrefetch is the largest prefetch that AMQP can express.
const maxPrefetch = 65_535

// Config says how to reach the broker and what to declare there. Only URI must
// be set; every other field is safe at its zero value.
type Config struct {
	// URI is amqp://user:password@host:port/vhost, or amqps:// for TLS, with the
	// query parameters that RabbitMQ documents (cacertfile, certfile, keyfile,
	// server_name_indication, heartbeat, ...).
	URI string
	// Topology says which exchange and routing key a topic stands for; the same
	// for every publisher and subscriber. Nil is PrefixTopology(DefaultPrefix).
	Topology func(topic string) (exchange, routingKey string)
	// Logger takes what an operator should know; nil is silence.
	Logger *slog.Logger
	// Timeout bounds each wait for the broker: a connection, a write, a confirm.
	// Zero is DefaultTimeout.
	Timeout time.Duration

	// Window is how many messages a publisher lets await their confirm, 1 to
	// 10,000. Zero is DefaultWindow.
	Window int
	// RequireRoute makes it an error, ErrUnroutable, that no queue takes a
	// message. Else it is only counted.
	RequireRoute bool

	// Group is the consumer group, without a dot. Empty: every subscription has
	// a queue of its own, which starts empty and ends with the connection.
	Group string
	// Prefetch is how many messages the broker sends a subscription ahead of an
	// Ack, 1 to 65,535. Zero is DefaultPrefetch.
	Prefetch int
	// MaxLength and MaxLengthBytes bound a queue; a full one drops from its
	// head. Zero is DefaultMaxLength and DefaultMaxLengthBytes. A queue that
	// exists with other bounds is refused by the broker.
	MaxLength      int
	MaxLengthBytes int
	// DeliveryLimit is how often a message of a group is given out again after
	// its consumer was lost. Zero is DefaultDeliveryLimit.
	DeliveryLimit int
	// Check says what is wrong with a topic's message before it is handed out. One
	// that fails is rejected: it is logged with its place, counted, and gone. Nil
	// takes every message.
	Check func(topic string, m *message.Message) error
	// Redelivery is the pause before a nacked message comes again the first
	// time; it doubles up to MaxRedelivery. Zero is DefaultRedelivery and
	// DefaultMaxRedelivery.
	Redelivery    time.Duration
	MaxRedelivery time.Duration
}

// Errors to match with errors.Is.
var (
	// ErrClosed says that the publisher or subscriber has been closed.
	ErrClosed = errors.New("closed")
	// ErrUnavailable says that there is no working connection to the broker.
	ErrUnavailable = errors.New("broker unavailable")
	// ErrUnconfirmed says that the broker did not confirm a message: it may or
	// may not have it.
	ErrUnconfirmed = errors.New("not confirmed")
	// ErrOtherArguments says that the broker has the queue or exchange already,
	// declared with other arguments.
	ErrOtherArguments = errors.New("it was declared with other arguments")
	// ErrUnroutable says that no queue took a message (Config.RequireRoute).
	ErrUnroutable = errors.New("no queue takes it")
)

// PrefixTopology maps the topic "activity.3" to the exchange "<prefix>.activity"
// and the routing key "3": it splits at the last dot. A topic without one is a
// routing key of the exchange "<prefix>".
func PrefixTopology(prefix string) func(topic string) (exchange, routingKey string) {
	return func(topic string) (string, string) {
		if i := strings.LastIndexByte(topic, '.'); i > 0 && i < len(topic)-1 {
			return prefix + "." + topic[:i], topic[i+1:]
		}
		return prefix, topic
	}
}

// withDefaults fills in what is unset and reports every fault at once.
func (c Config) withDefaults() (Config, error) {
	var faults []error
	if c.URI == "" {
		faults = append(faults, errors.New("URI: is missing, want amqp://user:password@host:port/vhost"))
	} else if _, err := amqp.ParseURI(c.URI); err != nil {
		faults = append(faults, fmt.Errorf("URI: %w", withoutURI(err)))
	}
	if c.Topology == nil {
		c.Topology = PrefixTopology(DefaultPrefix)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if strings.Contains(c.Group, ".") {
		faults = append(faults, fmt.Errorf("Group: %q contains a dot", c.Group)) //nolint:staticcheck // it begins with the field's name
	}
	number := func(name string, v *int, unset, most int) {
		if *v == 0 {
			*v = unset
		}
		if *v < 1 || *v > most {
			faults = append(faults, fmt.Errorf("%s: %d, want 1 to %d", name, *v, most))
		}
	}
	const maxInt32 = 1<<31 - 1
	number("Window", &c.Window, DefaultWindow, maxWindow)
	number("Prefetch", &c.Prefetch, DefaultPrefetch, maxPrefetch)
	number("MaxLength", &c.MaxLength, DefaultMaxLength, maxInt32)
	number("MaxLengthBytes", &c.MaxLengthBytes, DefaultMaxLengthBytes, maxInt32)
	number("DeliveryLimit", &c.DeliveryLimit, DefaultDeliveryLimit, maxInt32)
	duration := func(name string, v *time.Duration, unset time.Duration) {
		if *v == 0 {
			*v = unset
		}
		if *v < 0 {
			faults = append(faults, fmt.Errorf("%s: %v is negative", name, *v))
		}
	}
	duration("Timeout", &c.Timeout, DefaultTimeout)
	duration("Redelivery", &c.Redelivery, DefaultRedelivery)
	duration("MaxRedelivery", &c.MaxRedelivery, DefaultMaxRedelivery)
	c.MaxRedelivery = max(c.MaxRedelivery, c.Redelivery)
	return c, errors.Join(faults...)
}

// withoutURI drops the URI, and so the password, from a parser's error.
func withoutURI(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return errors.New("cannot be parsed; reserved characters in user and password must be percent-encoded")
	}
	return err
}
