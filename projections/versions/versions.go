// Package versions keeps several versions of the read models side by side on
// MongoDB, so that they can be rebuilt while they are read: the log is folded into
// a new version, then that one serves, and the old one is kept until it is dropped.
//
// It promises:
//   - one version serves at every moment, and which one changes in one conditional
//     write of one document; a version serves only after it has all its indexes
//     and has caught up with the log;
//   - one rebuild or switch is under way at a time. Its owner holds a lease and
//     renews it; whoever loses it stops. A second one is refused and told who
//     works since when. What a process that died has left is taken over once its
//     lease has ended, and gone on with from its checkpoints;
//   - a rebuild may be killed anywhere and run again: the result is the same;
//   - no side effect is repeated: a rebuild reads the log and writes to the new
//     version's collections, its own checkpoints and the document, nothing else;
//   - the number of a version is never used again, so that whatever a process that
//     was thought dead still writes meets no other version.
//
// Leases go by the clocks of the hosts, which must agree to well within Lease.
//
// The document, in the collection versions:
//
//	{_id: "views", r: revision, last: highest number ever used,
//	 serving: version, since: when it began to,
//	 kept: [{version, since: when it ceased to serve}], dropping: [versions],
//	 work: {version, owner, started, until, done, total, rate}}
//
// Without it, version 1 serves. Every write names the revision that it replaces.
package versions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/projections/mongostore"
)

const (
	// First is the version that migrations make, and that serves until another one
	// is told to.
	First = mongostore.FirstVersion
	// FirstGroup is the subscription group of the first version.
	FirstGroup = "projections"
	// Lease is how long a rebuild is waited for that gives no sign of life.
	Lease = 30 * time.Second
	// Grace is how long a version may not be dropped after another one has taken
	// its place: services look about once a second, and need a moment to change.
	Grace = 10 * time.Second

	// renewEvery is how often the lease is renewed, with the progress.
	renewEvery = 2 * time.Second
	// reportEvery is how often progress is reported to the caller.
	reportEvery = 200 * time.Millisecond
	// releaseTimeout bounds giving the lease back after ctx has ended.
	releaseTimeout = 5 * time.Second
	// serveAgain is how long the last write waits before it is tried again.
	serveAgain = 500 * time.Millisecond
	// maxRounds bounds how often a change of the document runs into others'.
	maxRounds = 32

	collectionName = "versions"
	documentID     = "views"
)

// Errors, matched with errors.Is.
var (
	// ErrBusy says that another rebuild or switch is under way.
	ErrBusy = errors.New("another one is under way")
	// ErrLost says that the lease has ended before it was renewed.
	ErrLost = errors.New("the lease was lost: it ended before it was renewed")
	// ErrRefused says that what was asked for makes no sense as things are. The
	// text says why and what would.
	ErrRefused = errors.New("refused")

	errContended = errors.New("others keep changing it")
	// errNothing is what is said by whoever finds nothing to change.
	errNothing = errors.New("nothing to change")
)

// State is which versions there are.
type State struct {
	Serving int `json:"serving"`
	// Since is when it began to serve; zero if it has from the start.
	Since time.Time `json:"since,omitzero"`
	// Kept are those that served and may again, in the order of their numbers.
	Kept []Kept `json:"kept,omitempty"`
	// Building is the rebuild or switch that is under way, or was left behind.
	Building *Work `json:"building,omitempty"`
	// Dropping are those whose drop was begun and not ended.
	Dropping []int `json:"dropping,omitempty"`
}

// Kept is a version that does not serve any more.
type Kept struct {
	Version int       `bson:"version" json:"version"`
	Since   time.Time `bson:"since" json:"since"` // when it ceased to serve
}

// Work is a version that is being brought up to date by one process, which then
// has it serve.
type Work struct {
	Version int       `bson:"version" json:"version"`
	Owner   string    `bson:"owner" json:"owner"`
	Started time.Time `bson:"started" json:"started"`
	// Until is when the owner may be taken for dead unless it is heard of.
	Until time.Time `bson:"until" json:"until"`
	// Done and Total are numbers of events; Rate is events a second.
	Done  uint64  `bson:"done" json:"done"`
	Total uint64  `bson:"total" json:"total"`
	Rate  float64 `bson:"rate" json:"rate"`
}

// Has says whether the version is there and whole: it serves or is kept.
func (s State) Has(version int) bool {
	return version == s.Serving || slices.ContainsFunc(s.Kept, func(k Kept) bool { return k.Version == version })
}

// Group is the subscription group that keeps a version up to date. Each version
// has checkpoints and parked events of its own.
func Group(version int) string {
	if version == First {
		return FirstGroup
	}
	return fmt.Sprintf("%s-v%d", FirstGroup, version)
}

// Options of a registry. The zero value is fit for use.
type Options struct {
	Logger *slog.Logger     // slog.Default() if nil
	Clock  func() time.Time // time.Now if nil
	// RenewEvery is how often a lease is renewed; 2 s if 0.
	RenewEvery time.Duration
}

// Registry knows the versions in a database.
type Registry struct {
	db     *mongo.Database
	coll   *mongo.Collection
	ledger subscription.Ledger
	opts   Options
}

// Open returns the registry of the read models in a database. Their checkpoints are
// in the ledger. It does no I/O.
func Open(db *mongo.Database, ledger subscription.Ledger, o Options) *Registry {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.RenewEvery == 0 {
		o.RenewEvery = renewEvery
	}
	majority := options.Collection().
		SetReadConcern(readconcern.Majority()).
		SetReadPreference(readpref.Primary()).
		SetWriteConcern(writeconcern.Majority())
	return &Registry{db: db, coll: db.Collection(collectionName, majority), ledger: ledger, opts: o}
}

// Ledger is where the checkpoints of all versions are.
func (r *Registry) Ledger() subscription.Ledger { return r.ledger }

// Store opens a version. It does no I/O.
func (r *Registry) Store(version int) *mongostore.Store { return mongostore.OpenVersion(r.db, version) }

// State tells which versions there are.
func (r *Registry) State(ctx context.Context) (State, error) {
	d, err := r.read(ctx)
	return d.state(), err
}

// Serving is the version that is to be served.
func (r *Registry) Serving(ctx context.Context) (int, error) {
	d, err := r.read(ctx)
	return d.Serving, err
}

// Check verifies that the version that serves has its indexes. The error is
// mongostore.ErrNotReady if a migration mends it.
func (r *Registry) Check(ctx context.Context) error {
	serving, err := r.Serving(ctx)
	if err != nil {
		return err
	}
	return r.Store(serving).Check(ctx)
}

// document is what is stored.
type document struct {
	ID       string    `bson:"_id"`
	Revision int64     `bson:"r"`
	Last     int       `bson:"last"`
	Serving  int       `bson:"serving"`
	Since    time.Time `bson:"since"`
	Kept     []Kept    `bson:"kept"`
	Dropping []int     `bson:"dropping"`
	Work     *Work     `bson:"work,omitempty"`
}

func (d *document) state() State {
	return State{Serving: d.Serving, Since: d.Since, Kept: d.Kept, Building: d.Work, Dropping: d.Dropping}
}

func (r *Registry) read(ctx context.Context) (document, error) {
	d := document{ID: documentID, Last: First, Serving: First}
	err := r.coll.FindOne(ctx, bson.D{{Key: "_id", Value: documentID}}).Decode(&d)
	if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
		return d, fmt.Errorf("read which version of the read models serves: %w", err)
	}
	return d, nil
}

// change replaces the document by what alter makes of it, however many others do
// the same. Alter may be called several times, and not change what it is given
// other than by assignment to its fields.
func (r *Registry) change(ctx context.Context, alter func(d *document) error) error {
	for range maxRounds {
		d, err := r.read(ctx)
		if err != nil {
			return err
		}
		found := d.Revision
		if err := alter(&d); err != nil {
			if errors.Is(err, errNothing) {
				return nil
			}
			return err
		}
		d.Revision++
		met, err := r.replace(ctx, found, d)
		if err != nil {
			return fmt.Errorf("change the versions of the read models: %w", err)
		}
		if met {
			return nil
		}
	}
	return fmt.Errorf("change the versions of the read models: %w", errContended)
}

func (r *Registry) replace(ctx context.Context, found int64, d document) (met bool, err error) {
	if found == 0 {
		_, err := r.coll.InsertOne(ctx, d)
		if mongo.IsDuplicateKeyError(err) {
			return false, nil
		}
		return err == nil, err
	}
	result, err := r.coll.ReplaceOne(ctx, bson.D{{Key: "_id", Value: documentID}, {Key: "r", Value: found}}, d)
	if err != nil {
		return false, err
	}
	return result.MatchedCount == 1, nil
}

// now is the time as the document keeps it.
func (r *Registry) now() time.Time { return r.opts.Clock().UTC().Truncate(time.Millisecond) }

// newOwner names this process for people, and this run apart from all others.
func newOwner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), uuid.NewString())
}

// VersionOf is the version whose group it is; ok is false of any other group.
func VersionOf(group string) (version int, ok bool) {
	if group == FirstGroup {
		return First, true
	}
	number, ok := strings.CutPrefix(group, FirstGroup+"-v")
	if !ok {
		return 0, false
	}
	version, err := strconv.Atoi(number)
	return version, err == nil && version > First
}
