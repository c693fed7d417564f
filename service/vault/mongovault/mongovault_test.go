package mongovault_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events/servertest"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/service/vault/mongovault"
	"github.com/meet5/backend/service/vault/vaulttest"
)

func TestVaultKeepsItsPromises(t *testing.T) {
	vaulttest.Run(t, func(t *testing.T) vault.Vault {
		db := servertest.Database(t, "vault")
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
	_, list := v.Sessions(t.Context(), uuid.New(), time.Now())
	_, all := v.Kept(t.Context(), "")
	_, erased := v.Erased(t.Context(), uuid.New())
	for name, err := range map[string]error{
		"ChangePassword": v.ChangePassword(t.Context(), uuid.New(), "from", "to"),
		"EndSessions":    v.EndSessions(t.Context(), uuid.New(), uuid.New()), "Sessions": list,
		"Erased":     erased,
		"KeepShared": v.KeepShared(t.Context(), uuid.New(), vault.Key{}, []uuid.UUID{uuid.New()}),
		"Kept":       all, "Forget": v.Forget(t.Context(), "name"),
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
