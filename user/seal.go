package user

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/user/account"
)

// seal encrypts personal data with the user's own key, as JSON. What is sealed for
// one user and event type opens for no other.
func seal(rand io.Reader, key vault.Key, user uuid.UUID, eventType string, p events.Personal) (account.Sealed, error) {
	plain, err := json.Marshal(p)
	if err != nil {
		return account.Sealed{}, fmt.Errorf("seal personal data: %w", err)
	}
	b, err := key.Seal(rand, plain, associated(user, eventType))
	if err != nil {
		return account.Sealed{}, fmt.Errorf("personal data: %w", err)
	}
	return account.Sealed{EventType: eventType, Bytes: b}, nil
}

// unseal decrypts what seal made for that user.
func unseal(key vault.Key, user uuid.UUID, s account.Sealed) (events.Personal, error) {
	var p events.Personal
	plain, err := key.Unseal(s.Bytes, associated(user, s.EventType))
	if err == nil {
		err = json.Unmarshal(plain, &p)
	}
	if err != nil {
		return events.Personal{}, fmt.Errorf("open personal data of %s: %w", user, err)
	}
	return p, nil
}

// associated is the data that a seal is bound to: the user's 16 bytes and the
// event type.
func associated(user uuid.UUID, eventType string) []byte {
	return append(user[:], eventType...)
}
