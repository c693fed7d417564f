package migrations

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

const (
	// Lease is how long a run's lock outlives its last sign of life.
	Lease = time.Minute
	// renewEvery leaves two more tries before the lease ends.
	renewEvery = Lease / 3
	// pollEvery is how often a run that waits for the lock asks for it.
	pollEvery = 250 * time.Millisecond
	// releaseTimeout bounds giving the lock back after ctx has ended.
	releaseTimeout = 5 * time.Second

	lockCollection = "migrations_lock"
	lockID         = "lock"
)

// errLost says that another run has the lock now.
var errLost = errors.New("the lock was lost: its lease ended before it was renewed")

// lock is a document that one run at a time owns until a point in time.
type lock struct {
	coll  *mongo.Collection
	clock func() time.Time
	owner string // host and process for people, and a random part
}

func newLock(dbs Databases, clock func() time.Time) *lock {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return &lock{
		coll:  dbs.Log.Collection(lockCollection),
		clock: clock,
		owner: fmt.Sprintf("%s/%d/%s", host, os.Getpid(), uuid.NewString()),
	}
}

// holder is the lock's document.
type holder struct {
	Owner string    `bson:"owner"`
	Until time.Time `bson:"until"`
}

// acquire waits for the lock until ctx ends.
func (l *lock) acquire(ctx context.Context, logger *slog.Logger) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for waiting := false; ; {
		got, err := l.try(ctx)
		if err != nil {
			return fmt.Errorf("take the lock: %w", err)
		}
		if got {
			return nil
		}
		if !waiting {
			waiting = true
			h := l.holder(ctx)
			logger.InfoContext(ctx, "another run holds the lock, waiting", "owner", h.Owner, "until", h.Until)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			h := l.holder(context.WithoutCancel(ctx))
			return fmt.Errorf("wait for the lock that %s holds until %s: %w", h.Owner, h.Until.Format(time.RFC3339), ctx.Err())
		}
	}
}

// try takes the lock if it is free or its lease has ended. The document is made
// beforehand, since servers differ in the error of an upsert that another won.
func (l *lock) try(ctx context.Context) (bool, error) {
	if _, err := l.coll.InsertOne(ctx, free()); err != nil && !mongo.IsDuplicateKeyError(err) {
		return false, err
	}
	now := l.clock()
	ended := bson.D{{Key: "_id", Value: lockID}, {Key: "until", Value: bson.D{{Key: "$lte", Value: now}}}}
	take := bson.D{{Key: "$set", Value: holder{l.owner, now.Add(Lease)}}}
	err := l.coll.FindOneAndUpdate(ctx, ended, take).Err()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return false, nil
	}
	return err == nil, err
}

// free is the document of a lock that nobody holds.
func free() bson.D {
	return bson.D{{Key: "_id", Value: lockID}, {Key: "owner", Value: ""}, {Key: "until", Value: time.UnixMilli(0)}}
}

// renew prolongs the lease. It fails with errLost if another run has the lock.
func (l *lock) renew(ctx context.Context) error {
	mine := bson.D{{Key: "_id", Value: lockID}, {Key: "owner", Value: l.owner}}
	prolong := bson.D{{Key: "$set", Value: bson.D{{Key: "until", Value: l.clock().Add(Lease)}}}}
	err := l.coll.FindOneAndUpdate(ctx, mine, prolong).Err()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return errLost
	}
	if err != nil {
		return fmt.Errorf("renew the lock: %w", err)
	}
	return nil
}

// keep renews the lease at each tick until ctx ends, and calls lost when it could
// not for as long as the lease lasts, or another run has the lock.
func (l *lock) keep(ctx context.Context, tick <-chan time.Time, lost context.CancelCauseFunc) {
	for since := l.clock(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		asked := l.clock()
		err := l.renew(ctx)
		switch {
		case err == nil:
			since = asked
		case errors.Is(err, errLost) || l.clock().Sub(since) >= Lease:
			lost(err)
			return
		}
	}
}

// release gives the lock back if it is still ours.
func (l *lock) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	_, err := l.coll.ReplaceOne(ctx, bson.D{{Key: "_id", Value: lockID}, {Key: "owner", Value: l.owner}}, free())
	if err != nil {
		return fmt.Errorf("release the lock: %w", err)
	}
	return nil
}

// holder says who has the lock, for messages.
func (l *lock) holder(ctx context.Context) holder {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	h := holder{Owner: "another run"}
	_ = l.coll.FindOne(ctx, bson.D{{Key: "_id", Value: lockID}}).Decode(&h)
	return h
}
