package mongoside_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/fraud/labels"
	"github.com/meet5/backend/fraud/side/mongoside"
	"github.com/meet5/backend/fraud/side/sidetest"
)

// cleanupTimeout bounds dropping a test's database.
const cleanupTimeout = 30 * time.Second

func TestStoreKeepsItsPromises(t *testing.T) {
	sidetest.Run(t, func(t *testing.T) labels.Store {
		db := database(t)
		for range 2 { // Create may be repeated
			if err := mongoside.Create(t.Context(), db); err != nil {
				t.Fatal(err)
			}
		}
		return mongoside.Open(db)
	})
}

// database is a new, empty database that is dropped after the test.
func database(t *testing.T) *mongo.Database {
	t.Helper()
	uri := os.Getenv("MONGODB_URI")
	if uri == "" {
		const missing = "MONGODB_URI is not set; `make test` brings a server up"
		if os.Getenv("CI") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	db := client.Database("fraudside_" + uuid.NewString()[:8])
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if err := db.Drop(ctx); err != nil {
			t.Errorf("drop %s: %v", db.Name(), err)
		}
		if err := client.Disconnect(ctx); err != nil {
			t.Error(err)
		}
	})
	return db
}
