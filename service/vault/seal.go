package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
)

const nonceBytes = 12

// Seal encrypts with the key: AES-256-GCM, a random nonce, then the ciphertext. What
// it is bound to, the associated data, must be the same when it is opened.
func (k Key) Seal(rand io.Reader, plain, associated []byte) ([]byte, error) {
	aead, err := k.aead()
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	b := make([]byte, nonceBytes, nonceBytes+len(plain)+aead.Overhead())
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, fmt.Errorf("seal: make a nonce: %w", err)
	}
	return aead.Seal(b, b, plain, associated), nil
}

// Unseal decrypts what Seal made.
func (k Key) Unseal(sealed, associated []byte) ([]byte, error) {
	aead, err := k.aead()
	if err != nil {
		return nil, fmt.Errorf("unseal: %w", err)
	}
	if len(sealed) < nonceBytes {
		return nil, errors.New("unseal: it is cut off")
	}
	plain, err := aead.Open(nil, sealed[:nonceBytes], sealed[nonceBytes:], associated)
	if err != nil {
		return nil, fmt.Errorf("unseal: %w", err)
	}
	return plain, nil
}

func (k Key) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
