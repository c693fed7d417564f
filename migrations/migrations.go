// Package migrations brings a MongoDB server to the shape that this build needs:
// collections, indexes and sharding, as ordered steps.
//
// It promises that
//   - a step runs once, in the order of the versions, and is recorded after it
//     succeeded; only a run that died between the two leads to it running again,
//     so a step must bear being repeated;
//   - two runs never interleave: a run holds a lock, renews it while it works,
//     stops when it loses it, and waits while another holds it. The lock of a run
//     that died is free after Lease, by the clocks of the hosts that run
//     migrations, which must agree to well within it;
//   - a step that fails is named in the error, and no later one runs;
//   - Plan and Status write nothing.
//
// Each concern has a database of its own, so that each service can be given the
// rights to no more than it needs.
package migrations

import (
	"context"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// DefaultPrefix is what the names of the databases begin with unless the
// operator chooses otherwise.
const DefaultPrefix = "meet5"

// maxPrefix leaves room for the rest of a database's name, which MongoDB limits
// to 63 bytes.
const maxPrefix = 40

// Databases are the databases of one installation. What is read and written
// through them has majority concern, at the primary.
type Databases struct {
	Log         *mongo.Database // <prefix>_log: the event logs, and what migrations ran
	User        *mongo.Database // <prefix>_user
	Projections *mongo.Database // <prefix>_projections
	Fraud       *mongo.Database // <prefix>_fraud
	Activity    *mongo.Database // <prefix>_activity
}

// Open names the databases of an installation: 1 to 40 lower-case letters,
// digits, '-' and '_' as prefix. It does no I/O.
func Open(client *mongo.Client, prefix string) (Databases, error) {
	strange := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_'
	}
	if prefix == "" || len(prefix) > maxPrefix || strings.ContainsFunc(prefix, strange) {
		return Databases{}, fmt.Errorf("prefix %q of the databases' names: want 1 to %d lower-case letters, digits, '-' and '_'", prefix, maxPrefix)
	}
	opts := options.Database().
		SetWriteConcern(writeconcern.Majority()).
		SetReadConcern(readconcern.Majority()).
		SetReadPreference(readpref.Primary())
	named := func(concern string) *mongo.Database { return client.Database(prefix+"_"+concern, opts) }
	return Databases{
		Log:         named("log"),
		User:        named("user"),
		Projections: named("projections"),
		Fraud:       named("fraud"),
		Activity:    named("activity"),
	}, nil
}

// Step is one change. A step that has been released never changes, and its
// version is never used again.
type Step struct {
	// Version orders the steps. It is at least 1.
	Version uint64
	// Name says what the step brings about, in a few words.
	Name string
	// Up makes the change. It may be run again after a run that died.
	Up func(ctx context.Context, d Databases) error
}

func (s Step) String() string { return fmt.Sprintf("%d (%s)", s.Version, s.Name) }
