package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

const (
	// reachTimeout bounds how long a server may take to answer at first.
	reachTimeout = 10 * time.Second
	// cleaningTimeout bounds how long taking a work's traces away may take.
	cleaningTimeout = 2 * time.Minute
)

// site is where a work is done. What is made there is taken away by close, last
// first.
type site struct {
	Options
	prefix string
	mongo  *mongo.Client // nil unless the work needs it
	named  map[string]*mongo.Database
	closes []func(ctx context.Context) error
}

func openSite(ctx context.Context, w Work, o Options) (*site, error) {
	s := &site{Options: o, prefix: o.Prefix + "-" + uuid.NewString()[:8], named: make(map[string]*mongo.Database)}
	if !w.Mongo {
		return s, nil
	}
	client, err := mongo.Connect(options.Client().ApplyURI(o.Mongo).SetAppName("meet5 bench").SetServerSelectionTimeout(reachTimeout))
	if err != nil {
		return nil, fmt.Errorf("--mongo: %w", err)
	}
	reaching, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if err := client.Ping(reaching, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("reach MongoDB: %w", err), client.Disconnect(ctx))
	}
	s.mongo = client
	s.onClose(client.Disconnect)
	return s, nil
}

func (s *site) onClose(f func(ctx context.Context) error) { s.closes = append(s.closes, f) }

// close takes away what the work made, even if ctx has ended.
func (s *site) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleaningTimeout)
	defer cancel()
	var errs []error
	for i := len(s.closes) - 1; i >= 0; i-- {
		errs = append(errs, s.closes[i](ctx))
	}
	s.closes = nil
	return errors.Join(errs...)
}

// database names a database of the work's own, whose writes are on a majority and
// in the journal before they are acknowledged.
func (s *site) database(concern string) *mongo.Database {
	if db := s.named[concern]; db != nil {
		return db
	}
	journal := true
	db := s.mongo.Database(s.prefix+"_"+concern, options.Database().
		SetReadConcern(readconcern.Majority()).SetReadPreference(readpref.Primary()).
		SetWriteConcern(&writeconcern.WriteConcern{W: writeconcern.WCMajority, Journal: &journal}))
	s.named[concern] = db
	s.onClose(func(ctx context.Context) error {
		if err := db.Drop(ctx); err != nil {
			return fmt.Errorf("drop %s: %w", db.Name(), err)
		}
		return nil
	})
	return db
}

// folder makes a folder of the work's own.
func (s *site) folder() (string, error) {
	dir, err := os.MkdirTemp(s.Folder, s.prefix+"-")
	if err != nil {
		return "", fmt.Errorf("make a folder: %w", err)
	}
	s.onClose(func(context.Context) error { return os.RemoveAll(dir) })
	return dir, nil
}

// scaled is an amount of work at the options' scale, at least least.
func (s *site) scaled(n, least int) int { return max(int(float64(n)*s.Scale), least) }
