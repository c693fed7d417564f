package user

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/user/account"
	"github.com/meet5/backend/user/vault"
)

const nonceBytes = 12

// seal encrypts personal data with the user's own key: AES-256-GCM, a random
// nonce, then the ciphertext. What is sealed for one user and event type opens
// for no other.
func seal(rand io.Reader, key vault.Key, user uuid.UUID, eventType string, p events.Personal) (account.Sealed, error) {
	plain, err := json.Marshal(p)
	if err != nil {
		return account.Sealed{}, fmt.Errorf("seal personal data: %w", err)
	}
	aead, err := newAEAD(key)
	if err != nil {
		return account.Sealed{}, fmt.Errorf("seal personal data: %w", err)
	}
	b := make([]byte, nonceBytes, nonceBytes+len(plain)+aead.Overhead())
	if _, err := io.ReadFull(rand, b); err != nil {
		return account.Sealed{}, fmt.Errorf("seal personal data: make a nonce: %w", err)
	}
	b = aead.Seal(b, b, plain, associated(user, eventType))
	return account.Sealed{EventType: eventType, Bytes: b}, nil
}

// unseal decrypts what seal made for that user.
func unseal(key vault.Key, user uuid.UUID, s account.Sealed) (events.Personal, error) {
	var p events.Personal
	aead, err := newAEAD(key)
	if err == nil && len(s.Bytes) < nonceBytes {
		err = errors.New("it is cut off")
	}
	if err != nil {
		return p, fmt.Errorf("open personal data of %s: %w", user, err)
	}
	plain, err := aead.Open(nil, s.Bytes[:nonceBytes], s.Bytes[nonceBytes:], associated(user, s.EventType))
	if err == nil {
		err = json.Unmarshal(plain, &p)
	}
	if err != nil {
		return events.Personal{}, fmt.Errorf("open personal data of %s: %w", user, err)
	}
	return p, nil
}

func newAEAD(key vault.Key) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// associated is the data that a seal is bound to: the user's 16 bytes and the
// event type.
func associated(user uuid.UUID, eventType string) []byte {
	return append(user[:], eventType...)
}
