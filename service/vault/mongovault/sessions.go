package mongovault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/service/vault"
)

// Fields of a session's document, whose _id is the session. Times are in
// microseconds since 1970: MongoDB's own dates have milliseconds.
const (
	fieldUser    = "user"
	fieldToken   = "token"
	fieldStarted = "started"
	fieldExpires = "expires"
	fieldUsed    = "used" // absent in sessions of earlier builds
)

type sessionDocument struct {
	ID      bson.Binary `bson:"_id"`
	User    bson.Binary `bson:"user"`
	Token   bson.Binary `bson:"token"`
	Started int64       `bson:"started"`
	Expires int64       `bson:"expires"`
	Used    int64       `bson:"used,omitempty"`
	Agent   string      `bson:"agent,omitempty"`
	Address string      `bson:"address,omitempty"`
}

// StartSession implements vault.Vault.
func (v *Vault) StartSession(ctx context.Context, s vault.Session) error {
	if err := s.Check(); err != nil {
		return err
	}
	_, err := v.sessions.InsertOne(ctx, sessionDocument{
		ID: uuidValue(s.ID), User: uuidValue(s.User), Token: bytesValue(s.Token[:]),
		Started: s.StartedAt.UnixMicro(), Expires: s.ExpiresAt.UnixMicro(),
		Used: s.UsedAt.UnixMicro(), Agent: s.Agent, Address: s.Address,
	})
	if err != nil {
		return fault("start a session", err)
	}
	return v.endOldest(ctx, s.User)
}

// endOldest ends those of the user's sessions that are too many.
func (v *Vault) endOldest(ctx context.Context, user uuid.UUID) error {
	cursor, err := v.sessions.Find(ctx, bson.D{{Key: fieldUser, Value: uuidValue(user)}}, options.Find().
		SetSort(bson.D{{Key: fieldStarted, Value: -1}}).
		SetSkip(vault.MaxSessions).
		SetProjection(bson.D{{Key: "_id", Value: 1}}))
	if err != nil {
		return fault("count a user's sessions", err)
	}
	var docs []sessionDocument
	if err := cursor.All(ctx, &docs); err != nil {
		return fault("count a user's sessions", err)
	}
	for _, d := range docs {
		if _, err := v.sessions.DeleteOne(ctx, bson.D{{Key: "_id", Value: d.ID}}); err != nil {
			return fault("end a user's oldest session", err)
		}
	}
	return nil
}

// ExchangeToken implements vault.Vault.
func (v *Vault) ExchangeToken(ctx context.Context, id uuid.UUID, given, next vault.Digest, now, expiresAt time.Time) error {
	current := append(byID(id),
		bson.E{Key: fieldToken, Value: bytesValue(given[:])},
		bson.E{Key: fieldExpires, Value: bson.D{{Key: "$gt", Value: now.UnixMicro()}}})
	err := v.sessions.FindOneAndUpdate(ctx, current, bson.D{{Key: "$set", Value: bson.D{
		{Key: fieldToken, Value: bytesValue(next[:])},
		{Key: fieldExpires, Value: expiresAt.UnixMicro()},
		{Key: fieldUsed, Value: now.UnixMicro()},
	}}}).Err()
	if err == nil {
		return nil
	}
	if !errors.Is(err, mongo.ErrNoDocuments) {
		return fault("exchange a refresh token", err)
	}
	// Whatever the reason, this session is over.
	var ended sessionDocument
	err = v.sessions.FindOneAndDelete(ctx, byID(id)).Decode(&ended)
	switch {
	case errors.Is(err, mongo.ErrNoDocuments):
		err = vault.ErrNotFound
	case err != nil:
		return fault("end a session whose token was used twice", err)
	case ended.Expires <= now.UnixMicro():
		err = vault.ErrNotFound
	default:
		err = vault.ErrReused
	}
	return fmt.Errorf("vault: exchange a refresh token: %w", err)
}

// EndSession implements vault.Vault.
func (v *Vault) EndSession(ctx context.Context, id uuid.UUID) error {
	if _, err := v.sessions.DeleteOne(ctx, byID(id)); err != nil {
		return fault("end a session", err)
	}
	return nil
}

// EndSessions implements vault.Vault.
func (v *Vault) EndSessions(ctx context.Context, user, but uuid.UUID) error {
	_, err := v.sessions.DeleteMany(ctx, bson.D{
		{Key: fieldUser, Value: uuidValue(user)},
		{Key: "_id", Value: bson.D{{Key: "$ne", Value: uuidValue(but)}}},
	})
	if err != nil {
		return fault("end a user's sessions", err)
	}
	return nil
}

// Sessions implements vault.Vault.
func (v *Vault) Sessions(ctx context.Context, user uuid.UUID, now time.Time) ([]vault.Session, error) {
	cursor, err := v.sessions.Find(ctx, bson.D{
		{Key: fieldUser, Value: uuidValue(user)},
		{Key: fieldExpires, Value: bson.D{{Key: "$gt", Value: now.UnixMicro()}}},
	}, options.Find().SetSort(bson.D{{Key: fieldStarted, Value: -1}}).SetProjection(bson.D{{Key: fieldToken, Value: 0}}))
	if err != nil {
		return nil, fault("read a user's sessions", err)
	}
	var docs []sessionDocument
	if err := cursor.All(ctx, &docs); err != nil {
		return nil, fault("read a user's sessions", err)
	}
	var sessions []vault.Session
	for _, d := range docs {
		if len(d.ID.Data) != len(uuid.UUID{}) {
			return nil, fault("read a user's sessions", fmt.Errorf("one has an ID of %d bytes", len(d.ID.Data)))
		}
		sessions = append(sessions, vault.Session{
			ID: uuid.UUID(d.ID.Data), User: user,
			StartedAt: time.UnixMicro(d.Started).UTC(), ExpiresAt: time.UnixMicro(d.Expires).UTC(),
			UsedAt: time.UnixMicro(cmp.Or(d.Used, d.Started)).UTC(), Agent: d.Agent, Address: d.Address,
		})
	}
	return sessions, nil
}

// Tidy implements vault.Vault.
func (v *Vault) Tidy(ctx context.Context, now time.Time) error {
	expired := bson.D{{Key: fieldExpires, Value: bson.D{{Key: "$lte", Value: now.UnixMicro()}}}}
	if _, err := v.sessions.DeleteMany(ctx, expired); err != nil {
		return fault("drop expired sessions", err)
	}
	return nil
}
