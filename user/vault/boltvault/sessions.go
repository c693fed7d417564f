package boltvault

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/user/vault"
)

// The sessions bucket is session → user, digest of the token, start and end, both
// in microseconds since 1970. The sessions_by_user bucket is user, start, session
// → nothing, so that a user's sessions stand together, oldest first.
const (
	sessionSize = 16 + 32 + 8 + 8
	byUserSize  = 16 + 8 + 16
)

func encodeSession(s vault.Session) []byte {
	b := make([]byte, 0, sessionSize)
	b = append(b, s.User[:]...)
	b = append(b, s.Token[:]...)
	b = appendTime(b, s.StartedAt)
	return appendTime(b, s.ExpiresAt)
}

func decodeSession(id, b []byte) (vault.Session, error) {
	if len(id) != 16 || len(b) != sessionSize {
		return vault.Session{}, fmt.Errorf("session %x has %d bytes, not %d", id, len(b), sessionSize)
	}
	return vault.Session{
		ID: uuid.UUID(id), User: uuid.UUID(b[:16]), Token: vault.Digest(b[16:48]),
		StartedAt: decodeTime(b[48:56]), ExpiresAt: decodeTime(b[56:64]),
	}, nil
}

func appendTime(b []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixMicro())) //nolint:gosec // two's complement on purpose
}

func decodeTime(b []byte) time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64(b))).UTC() //nolint:gosec // two's complement on purpose
}

func byUserKey(s vault.Session) []byte {
	b := make([]byte, 0, byUserSize)
	b = append(b, s.User[:]...)
	b = appendTime(b, s.StartedAt)
	return append(b, s.ID[:]...)
}

// StartSession implements vault.Vault.
func (v *Vault) StartSession(ctx context.Context, s vault.Session) error {
	return v.update(ctx, "start a session", func(tx *bolt.Tx) error {
		if err := bucket(tx, sessionsBucket).Put(s.ID[:], encodeSession(s)); err != nil {
			return err
		}
		if err := bucket(tx, byUserBucket).Put(byUserKey(s), nil); err != nil {
			return err
		}
		return endSessions(tx, s.User, vault.MaxSessions)
	})
}

// endSessions ends the user's sessions but for the newest few.
func endSessions(tx *bolt.Tx, user uuid.UUID, keep int) error {
	var keys [][]byte
	cur := bucket(tx, byUserBucket).Cursor()
	for k, _ := cur.Seek(user[:]); bytes.HasPrefix(k, user[:]); k, _ = cur.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	for _, k := range keys[:max(0, len(keys)-keep)] {
		if err := bucket(tx, sessionsBucket).Delete(k[byUserSize-16:]); err != nil {
			return err
		}
		if err := bucket(tx, byUserBucket).Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// ExchangeToken implements vault.Vault.
func (v *Vault) ExchangeToken(ctx context.Context, id uuid.UUID, given, next vault.Digest, now, expiresAt time.Time) error {
	refused := error(nil) // what is refused may still change the file
	err := v.update(ctx, "exchange a refresh token", func(tx *bolt.Tx) error {
		refused = nil
		s, err := session(tx, id)
		if err != nil {
			return err
		}
		switch {
		case !now.Before(s.ExpiresAt):
			refused = vault.ErrNotFound
		case s.Token != given:
			refused = vault.ErrReused
		default:
			s.Token, s.ExpiresAt = next, expiresAt
			return bucket(tx, sessionsBucket).Put(id[:], encodeSession(s))
		}
		return endSession(tx, s)
	})
	if err == nil && refused != nil {
		return fmt.Errorf("vault: exchange a refresh token: %w", refused)
	}
	return err
}

func session(tx *bolt.Tx, id uuid.UUID) (vault.Session, error) {
	b := bucket(tx, sessionsBucket).Get(id[:])
	if b == nil {
		return vault.Session{}, vault.ErrNotFound
	}
	return decodeSession(id[:], b)
}

func endSession(tx *bolt.Tx, s vault.Session) error {
	if err := bucket(tx, sessionsBucket).Delete(s.ID[:]); err != nil {
		return err
	}
	return bucket(tx, byUserBucket).Delete(byUserKey(s))
}

// EndSession implements vault.Vault.
func (v *Vault) EndSession(ctx context.Context, id uuid.UUID) error {
	return v.update(ctx, "end a session", func(tx *bolt.Tx) error {
		if bucket(tx, sessionsBucket).Get(id[:]) == nil {
			return nil
		}
		s, err := session(tx, id)
		if err != nil {
			return err
		}
		return endSession(tx, s)
	})
}
