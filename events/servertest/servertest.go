// Package servertest gives tests the servers that `make test` brings up: those that
// MONGODB_URI and AMQP_URL name. Without one a test skips, in CI it fails.
package servertest

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// cleanupTimeout bounds taking away what a test made.
const cleanupTimeout = 30 * time.Second

// Mongo is the URI of the MongoDB server.
func Mongo(t testing.TB) string { t.Helper(); return named(t, "MONGODB_URI") }

// AMQP is the URL of the broker.
func AMQP(t testing.TB) string { t.Helper(); return named(t, "AMQP_URL") }

func named(t testing.TB, variable string) string {
	t.Helper()
	uri := os.Getenv(variable)
	if uri == "" {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not set; `make test` brings a server up", variable)
		}
		t.Skipf("%s is not set; `make test` brings a server up", variable)
	}
	return uri
}

// Client is a client of the MongoDB server that ends with the test. Further options
// come on top of the server's own.
func Client(t testing.TB, more ...*options.ClientOptions) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(append([]*options.ClientOptions{options.Client().ApplyURI(Mongo(t))}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if err := client.Disconnect(ctx); err != nil {
			t.Error(err)
		}
	})
	return client
}

// Database is a new, empty database of a client of its own, dropped after the test.
// Its name begins with of.
func Database(t testing.TB, of string, more ...*options.ClientOptions) *mongo.Database {
	t.Helper()
	return Dropped(t, Client(t, more...).Database(of+"_"+uuid.NewString()[:8]))
}

// Dropped has the database dropped after the test.
func Dropped(t testing.TB, db *mongo.Database) *mongo.Database {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if err := db.Drop(ctx); err != nil {
			t.Errorf("drop %s: %v", db.Name(), err)
		}
	})
	return db
}

// Undeclared has exchanges and queues deleted from the broker after the test.
func Undeclared(t testing.TB, exchanges, queues []string) {
	t.Helper()
	url := AMQP(t)
	t.Cleanup(func() {
		conn, err := amqp.Dial(url)
		if err != nil {
			t.Errorf("clean up the broker: %v", err)
			return
		}
		defer func() { _ = conn.Close() }()
		channel, err := conn.Channel()
		if err != nil {
			t.Errorf("clean up the broker: %v", err)
			return
		}
		for _, name := range queues {
			if _, err := channel.QueueDelete(name, false, false, false); err != nil {
				t.Errorf("delete queue %s: %v", name, err)
			}
		}
		for _, name := range exchanges {
			if err := channel.ExchangeDelete(name, false, false); err != nil {
				t.Errorf("delete exchange %s: %v", name, err)
			}
		}
	})
}
