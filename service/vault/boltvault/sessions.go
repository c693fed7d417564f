package boltvault

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/service/vault"
)

// The sessions bucket is session → user, digest of the token, start, end and last
// use, all three in microseconds since 1970, then the length of the address, the
// address and the agent. Earlier builds ended after the end. The sessions_by_user
// bucket is user, start, session → nothing, so that a user's sessions stand together,
// oldest first.
const (
	earlierSize = 16 + 32 + 8 + 8
	sessionSize = earlierSize + 8 + 1 // and address and agent
	byUserSize  = 16 + 8 + 16
)

func encodeSession(s vault.Session) []byte {
	b := make([]byte, 0, sessionSize+len(s.Address)+len(s.Agent))
	b = append(b, s.User[:]...)
	b = append(b, s.Token[:]...)
	b = appendTime(b, s.StartedAt)
	b = appendTime(b, s.ExpiresAt)
	b = appendTime(b, s.UsedAt)
	b = append(b, byte(len(s.Address))) //nolint:gosec // at most vault.MaxAddress
	b = append(b, s.Address...)
	return append(b, s.Agent...)
}

func decodeSession(id, b []byte) (vault.Session, error) {
	if len(id) != 16 || len(b) != earlierSize && (len(b) < sessionSize || len(b) < sessionSize+int(b[sessionSize-1])) {
		return vault.Session{}, fmt.Errorf("session %x cannot be read: it has %d bytes", id, len(b))
	}
	s := vault.Session{
		ID: uuid.UUID(id), User: uuid.UUID(b[:16]), Token: vault.Digest(b[16:48]),
		StartedAt: decodeTime(b[48:56]), ExpiresAt: decodeTime(b[56:64]),
	}
	s.UsedAt = s.StartedAt
	if len(b) > earlierSize {
		address := sessionSize + int(b[sessionSize-1])
		s.UsedAt = decodeTime(b[earlierSize:])
		s.Address, s.Agent = string(b[sessionSize:address]), string(b[address:])
	}
	return s, nil
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
	if err := s.Check(); err != nil {
		return err
	}
	return v.update(ctx, "start a session", func(tx *bolt.Tx) error {
		if err := bucket(tx, sessionsBucket).Put(s.ID[:], encodeSession(s)); err != nil {
			return err
		}
		if err := bucket(tx, byUserBucket).Put(byUserKey(s), nil); err != nil {
			return err
		}
		keys := sessionKeys(tx, s.User)
		return endSessions(tx, keys[:max(0, len(keys)-vault.MaxSessions)], uuid.Nil)
	})
}

// sessionKeys are the keys of the user's sessions in sessions_by_user, the oldest
// first.
func sessionKeys(tx *bolt.Tx, user uuid.UUID) (keys [][]byte) {
	cur := bucket(tx, byUserBucket).Cursor()
	for k, _ := cur.Seek(user[:]); bytes.HasPrefix(k, user[:]); k, _ = cur.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	return keys
}

// endSessions ends the sessions of those keys but for one.
func endSessions(tx *bolt.Tx, keys [][]byte, but uuid.UUID) error {
	for _, k := range keys {
		id := k[byUserSize-16:]
		if bytes.Equal(id, but[:]) {
			continue
		}
		if err := bucket(tx, sessionsBucket).Delete(id); err != nil {
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
			s.Token, s.ExpiresAt, s.UsedAt = next, expiresAt, now
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

// EndSessions implements vault.Vault.
func (v *Vault) EndSessions(ctx context.Context, user, but uuid.UUID) error {
	return v.update(ctx, "end a user's sessions", func(tx *bolt.Tx) error {
		return endSessions(tx, sessionKeys(tx, user), but)
	})
}

// Sessions implements vault.Vault.
func (v *Vault) Sessions(ctx context.Context, user uuid.UUID, now time.Time) (sessions []vault.Session, err error) {
	err = v.view(ctx, "read a user's sessions", func(tx *bolt.Tx) error {
		for _, k := range slices.Backward(sessionKeys(tx, user)) {
			s, err := session(tx, uuid.UUID(k[byUserSize-16:]))
			if err != nil {
				return err
			}
			if s.Token = (vault.Digest{}); now.Before(s.ExpiresAt) {
				sessions = append(sessions, s)
			}
		}
		return nil
	})
	return sessions, err
}
