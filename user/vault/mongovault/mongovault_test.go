package mongovault_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/user/vault"
	"github.com/meet5/backend/user/vault/mongovault"
	"github.com/meet5/backend/user/vault/vaulttest"
)

func TestVaultKeepsItsPromises(t *testing.T) {
	vaulttest.Run(t, func(t *testing.T) vault.Vault {
		db := database(t)
		for range 2 { // it may be repeated
			if err := mongovault.Create(t.Context(), db); err != nil {
				t.Fatal(err)
			}
		}
		return mongovault.Open(db)
	})
}

func TestAServerThatIsGoneIsUnavailable(t *testing.T) {
	const nobody = "mongodb://127.0.0.1:1/" // tcpmux, which nobody runs
	client, err := mongo.Connect(options.Client().ApplyURI(nobody).SetServerSelectionTimeout(10 * time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	v := mongovault.Open(client.Database("gone"))
	_, keep := v.Keep(t.Context(), "name", []byte("value"))
	_, keys := v.Keys(t.Context(), uuid.New())
	_, hash := v.PasswordHash(t.Context(), uuid.New())
	_, kept := v.KeepKeys(t.Context(), map[uuid.UUID]vault.Key{uuid.New(): {}})
	for name, err := range map[string]error{
		"Keep": keep, "Keys": keys, "PasswordHash": hash, "KeepKeys": kept,
		"Enrol":         v.Enrol(t.Context(), uuid.New(), vault.Key{}, "hash"),
		"Erase":         v.Erase(t.Context(), uuid.New()),
		"StartSession":  v.StartSession(t.Context(), vault.Session{}),
		"ExchangeToken": v.ExchangeToken(t.Context(), uuid.New(), vault.Digest{}, vault.Digest{}, time.Now(), time.Now()),
		"EndSession":    v.EndSession(t.Context(), uuid.New()),
		"Tidy":          v.Tidy(t.Context(), time.Now()),
	} {
		if !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", name, err)
		}
	}
}

// cleanupTimeout bounds dropping a test's database.
const cleanupTimeout = 30 * time.Second

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
	db := client.Database("vault_" + uuid.NewString()[:8])
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
