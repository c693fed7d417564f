package rabbit_test

import (
	"sync"
	"testing"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/meet5/backend/events/bus/rabbit"
	"github.com/meet5/backend/events/servertest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// place is a corner of the broker for one test: exchanges and queues under a
// prefix of its own, which are deleted when the test ends.
type place struct {
	url    string
	prefix string

	mu     sync.Mutex
	routes map[[2]string]bool
	groups map[string]bool
}

func newPlace(tb testing.TB) *place {
	tb.Helper()
	p := &place{
		url:    servertest.AMQP(tb),
		prefix: "test-" + uuid.NewString(),
		routes: map[[2]string]bool{},
		groups: map[string]bool{},
	}
	tb.Cleanup(func() { p.clean(tb) })
	return p
}

// config is where every test begins.
func (p *place) config(group string) rabbit.Config {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.groups[group] = true
	return rabbit.Config{URI: p.url, Group: group, Topology: p.topology}
}

func (p *place) topology(topic string) (string, string) {
	exchange, key := rabbit.PrefixTopology(p.prefix)(topic)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(exchange)+len(key) > 200 {
		return exchange, key // nothing of that name can be declared
	}
	p.routes[[2]string{exchange, key}] = true
	return exchange, key
}

func (p *place) clean(tb testing.TB) {
	conn, ch := dial(tb, p.url)
	defer conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for r := range p.routes {
		for g := range p.groups {
			if _, err := ch.QueueDelete(r[0]+"."+r[1]+"."+g, false, false, false); err != nil {
				tb.Errorf("delete queue: %v", err)
			}
		}
		if err := ch.ExchangeDelete(r[0], false, false); err != nil {
			tb.Errorf("delete exchange: %v", err)
		}
	}
}

func dial(tb testing.TB, url string) (*amqp.Connection, *amqp.Channel) {
	tb.Helper()
	conn, err := amqp.Dial(url)
	if err != nil {
		tb.Fatal(err)
	}
	ch, err := conn.Channel()
	if err != nil {
		tb.Fatal(err)
	}
	return conn, ch
}

func newPublisher(tb testing.TB, cfg rabbit.Config) *rabbit.Publisher {
	tb.Helper()
	pub, err := rabbit.NewPublisher(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = pub.Close() })
	return pub
}

func newSubscriber(tb testing.TB, cfg rabbit.Config) *rabbit.Subscriber {
	tb.Helper()
	sub, err := rabbit.NewSubscriber(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = sub.Close() })
	return sub
}
