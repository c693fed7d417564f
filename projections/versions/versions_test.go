package versions_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/goleak"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/events/subscription/mongoledger"
	"github.com/meet5/backend/projections/mongostore"
	"github.com/meet5/backend/projections/versions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWithoutADocumentTheFirstVersionServes(t *testing.T) {
	w := newWorld(t)
	if diff := cmp.Diff(versions.State{Serving: 1}, w.state()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if err := w.registry(w.db.Client()).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestARebuildTouchesNothingButTheNewVersion(t *testing.T) {
	w := newWorld(t)
	w.happen(200)
	w.keepUp(1)
	heads := w.heads()
	before := w.contents()
	var reports []versions.Progress
	result, err := w.registry(w.db.Client()).Rebuild(w.ctx, w.log, func(p versions.Progress) { reports = append(reports, p) })
	if err != nil {
		t.Fatal(err)
	}
	if result.From != 1 || result.To != 2 || result.Events != 200 || result.Parked != 0 || result.Took <= 0 {
		t.Errorf("result %+v", result)
	}
	last := reports[len(reports)-1]
	if last.Version != 2 || last.Done != 200 || last.Total != 200 || last.Rate <= 0 || last.ETA != 0 {
		t.Errorf("the last report: %+v", last)
	}
	w.agrees(1)
	w.agrees(2)
	if diff := cmp.Diff(heads, w.heads()); diff != "" {
		t.Errorf("something was appended: %s", diff)
	}
	after := w.contents()
	for name, docs := range before {
		if diff := cmp.Diff(docs, own(name, after[name])); diff != "" {
			t.Errorf("%s has changed: -before +after\n%s", name, diff)
		}
		delete(after, name)
	}
	for name := range after {
		if !strings.HasSuffix(name, "_v2") && name != "versions" {
			t.Errorf("it has made a collection %s", name)
		}
	}
	s := w.state()
	if s.Serving != 2 || s.Since.IsZero() || s.Building != nil || len(s.Kept) != 1 || s.Kept[0].Version != 1 {
		t.Errorf("state %+v", s)
	}
}

// own leaves out the checkpoints of the new version.
func own(collection string, docs []string) []string {
	if collection != "checkpoints" {
		return docs
	}
	return slices.DeleteFunc(docs, func(d string) bool { return strings.Contains(d, versions.Group(2)) })
}

// contents are all documents, by collection.
func (w *world) contents() map[string][]string {
	w.Helper()
	names, err := w.db.ListCollectionNames(w.ctx, bson.D{})
	if err != nil {
		w.Fatal(err)
	}
	out := make(map[string][]string)
	for _, name := range names {
		cur, err := w.db.Collection(name).Find(w.ctx, bson.D{})
		if err != nil {
			w.Fatal(err)
		}
		var docs []bson.Raw
		if err := cur.All(w.ctx, &docs); err != nil {
			w.Fatal(err)
		}
		out[name] = []string{}
		for _, d := range docs {
			out[name] = append(out[name], d.String())
		}
		slices.Sort(out[name])
	}
	return out
}

func (w *world) heads() (heads []uint64) {
	w.Helper()
	for p := range w.log.Partitions() {
		h, err := w.log.Head(w.ctx, p)
		if err != nil {
			w.Fatal(err)
		}
		heads = append(heads, h)
	}
	return heads
}

// TestARebuildMayBeKilledAnywhere kills one at each of its commands in turn, until
// one gets through, and has another process rebuild after each. Of the commands,
// one arrives and the next does not; the order of some of them is another each time.
func TestARebuildMayBeKilledAnywhere(t *testing.T) {
	w := newWorld(t)
	w.happen(60)
	for at := int64(1); !w.killed(at, at%2 == 0); at++ {
		w.happen(2)
		if at > 300 {
			t.Fatal("it never gets through")
		}
	}
}

// killed kills a rebuild at a command, and has another one clear up after it. It
// says whether the first one got through before.
func (w *world) killed(at int64, arrives bool) (through bool) {
	w.Helper()
	ctx, die := context.WithCancel(w.ctx)
	defer die()
	m := &mortal{}
	client := connect(w.T, m)
	m.doom(at, arrives, die)
	_, err := w.registry(client).Rebuild(ctx, w.log, nil)
	if through = !m.dead.Load(); through && (err != nil || at < 20) {
		w.Fatalf("it was through after %d commands: %v", m.sent.Load(), err)
	}
	m.rest()

	left := w.state()
	w.pass(versions.Lease)
	r := w.registry(w.db.Client())
	result, err := r.Rebuild(w.ctx, w.log, nil)
	if err != nil {
		w.Fatalf("after one that was killed at %d: %v", at, err)
	}
	// What arrived may have taken effect only after the state was read.
	late := left.Building != nil && result.From == left.Building.Version
	if left.Building != nil && result.To != left.Building.Version && !late {
		w.Fatalf("killed at %d with version %d half built; the next one built %d", at, left.Building.Version, result.To)
	}
	s := w.state()
	if s.Serving != result.To || s.Building != nil || result.From != left.Serving && !late {
		w.Fatalf("killed at %d: then %+v, the state is %+v", at, result, s)
	}
	w.agrees(s.Serving)
	w.pass(versions.Grace)
	for _, k := range s.Kept {
		if err := r.Drop(w.ctx, k.Version); err != nil {
			w.Fatal(err)
		}
	}
	return through
}

// held is a rebuild that is stopped in its midst: its log does not go on.
type held struct {
	*world
	registry *versions.Registry
	result   chan error
	stop     context.CancelFunc
}

func (w *world) hold() *held {
	w.Helper()
	ctx, stop := context.WithCancel(w.ctx)
	h := &held{world: w, registry: w.registry(w.db.Client()), result: make(chan error, 1), stop: stop}
	begun := make(chan struct{})
	blocked := &blockedLog{Log: w.log, begun: sync.OnceFunc(func() { close(begun) })}
	var running sync.WaitGroup
	running.Go(func() {
		_, err := h.registry.Rebuild(ctx, blocked, nil)
		h.result <- err
	})
	w.Cleanup(func() { stop(); running.Wait() })
	select {
	case <-begun:
	case err := <-h.result:
		w.Fatalf("it has ended: %v", err)
	}
	return h
}

func TestTwoRebuildsAtOnceAreRefusedAndDropIsToo(t *testing.T) {
	w := newWorld(t)
	w.happen(10)
	h := w.hold()
	work := w.state().Building
	if work == nil || work.Version != 2 || work.Owner == "" || work.Started.IsZero() {
		t.Fatalf("under way is %+v", work)
	}
	other := w.registry(w.db.Client())
	_, err := other.Rebuild(t.Context(), w.log, nil)
	if !errors.Is(err, versions.ErrBusy) || !strings.Contains(err.Error(), work.Owner) || !strings.Contains(err.Error(), work.Started.Format(time.RFC3339)) {
		t.Errorf("a second rebuild: %v", err)
	}
	if _, err := other.Switch(t.Context(), w.log, 1, nil); !errors.Is(err, versions.ErrBusy) {
		t.Errorf("a switch meanwhile: %v", err)
	}
	if err := other.Drop(t.Context(), 2); !errors.Is(err, versions.ErrRefused) || !strings.Contains(err.Error(), work.Owner) {
		t.Errorf("a drop of what is built: %v", err)
	}
	// One that is interrupted gives the lease back.
	h.stop()
	if err := <-h.result; !errors.Is(err, context.Canceled) {
		t.Fatalf("the interrupted one: %v", err)
	}
	if result, err := other.Rebuild(t.Context(), w.log, nil); err != nil || result.To != 2 {
		t.Errorf("the next one: %+v, %v", result, err)
	}
	w.agrees(2)
}

func TestALeaseThatHasEndedIsTakenOverAndItsOwnerStops(t *testing.T) {
	w := newWorld(t)
	w.happen(10)
	h := w.hold()
	// The owner renews it, however long the work takes, as soon as it sees the time.
	until := w.state().Building.Until
	w.pass(versions.Lease / 2)
	w.eventually(func() bool { return w.state().Building.Until.After(until.Add(versions.Lease / 4)) })
	// Another process, whose clock is beyond all that, takes it for dead.
	ahead := versions.Open(w.db, mongoledger.Open(w.db), versions.Options{Clock: func() time.Time { return w.clock().Add(2 * versions.Lease) }})
	result, err := ahead.Rebuild(t.Context(), w.log, nil)
	if err != nil || result.To != 2 {
		t.Fatalf("%+v, %v", result, err)
	}
	if err := <-h.result; !errors.Is(err, versions.ErrLost) {
		t.Errorf("the former owner: %v, want ErrLost", err)
	}
	if s := w.state(); s.Serving != 2 || s.Building != nil {
		t.Errorf("state %+v", s)
	}
	w.agrees(2)
}

func TestSwitchingBackCatchesUpFirst(t *testing.T) {
	w := newWorld(t)
	w.happen(50)
	w.keepUp(1)
	r := w.registry(w.db.Client())
	if _, err := r.Rebuild(t.Context(), w.log, nil); err != nil {
		t.Fatal(err)
	}
	for _, to := range []int{1, 2, 1} {
		w.happen(30)
		result, err := r.Switch(t.Context(), w.log, to, nil)
		if err != nil || result.To != to || result.From != 3-to {
			t.Fatalf("%+v, %v", result, err)
		}
		w.agrees(to)
		if s := w.state(); s.Serving != to || len(s.Kept) != 1 || s.Kept[0].Version != 3-to {
			t.Fatalf("state %+v", s)
		}
	}
	if result, err := r.Rebuild(t.Context(), w.log, nil); err != nil || result.From != 1 || result.To != 3 {
		t.Fatalf("the next rebuild: %+v, %v", result, err)
	}
	for version, says := range map[int]string{3: "serves already", 7: "kept are: 1, 2"} {
		if _, err := r.Switch(t.Context(), w.log, version, nil); !errors.Is(err, versions.ErrRefused) || !strings.Contains(err.Error(), says) {
			t.Errorf("switch to %d: %v", version, err)
		}
	}
}

func TestWhatMayBeDropped(t *testing.T) {
	w := newWorld(t)
	w.happen(20)
	r := w.registry(w.db.Client())
	refused := func(version int, says string) {
		t.Helper()
		if err := r.Drop(t.Context(), version); !errors.Is(err, versions.ErrRefused) || !strings.Contains(err.Error(), says) {
			t.Errorf("drop of %d: %v, want a refusal that says %q", version, err, says)
		}
	}
	refused(1, "it serves")
	refused(2, "only version 1")
	if _, err := r.Rebuild(t.Context(), w.log, nil); err != nil {
		t.Fatal(err)
	}
	refused(1, "try again in")
	w.pass(versions.Grace)
	refused(2, "it serves")
	refused(3, "kept are: 1")
	if err := r.Drop(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if s := w.state(); len(s.Kept) != 0 || len(s.Dropping) != 0 {
		t.Errorf("state %+v", s)
	}
	if err := r.Check(t.Context()); err != nil {
		t.Errorf("check without the first version: %v", err)
	}
	// The half-built version of one who died may go, too, and its number with it.
	h := w.hold()
	h.stop()
	<-h.result
	if w.state().Building == nil {
		t.Fatal("nothing was left behind")
	}
	if err := r.Drop(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if result, err := r.Rebuild(t.Context(), w.log, nil); err != nil || result.To != 4 {
		t.Errorf("the next rebuild: %+v, %v", result, err)
	}
	for name := range w.contents() {
		if slices.Contains([]string{"visits", "likes", "matches", "hidden"}, name) || strings.HasSuffix(name, "_v3") {
			t.Errorf("%s is still there", name)
		}
	}
	w.agrees(4)
}

func TestADropMayBeKilledAnywhere(t *testing.T) {
	w := newWorld(t)
	w.happen(20)
	r := w.registry(w.db.Client())
	for at, through := int64(1), false; !through; at++ {
		if _, err := r.Rebuild(w.ctx, w.log, nil); err != nil {
			t.Fatal(err)
		}
		w.pass(versions.Grace)
		old := w.state().Kept[0].Version
		ctx, die := context.WithCancel(w.ctx)
		m := &mortal{}
		client := connect(t, m)
		m.doom(at, at%2 == 0, die)
		err := w.registry(client).Drop(ctx, old)
		through = !m.dead.Load()
		if through && err != nil {
			t.Fatal(err)
		}
		m.rest()
		die()
		if s := w.state(); !through && (len(s.Dropping) > 0 || len(s.Kept) > 0) {
			// It may be done by now: what arrived takes its time.
			if err := r.Drop(w.ctx, old); err != nil && !strings.Contains(err.Error(), "no such version") {
				t.Fatalf("after one that was killed at %d: %v", at, err)
			}
		}
		s := w.state()
		if len(s.Kept)+len(s.Dropping) > 0 {
			t.Fatalf("killed at %d: state %+v", at, s)
		}
		if n, err := mongostore.OpenVersion(w.db, old).Size(w.ctx); err != nil || n != 0 {
			t.Fatalf("killed at %d: left are %d documents, %v", at, n, err)
		}
	}
}

func TestAPoisonousEventIsParkedInTheNewVersionToo(t *testing.T) {
	w := newWorld(t)
	w.happen(20)
	bad := events.Event{ID: uuid.New(), Type: events.ProfileVisited, Stream: uuid.New(), OccurredAt: time.Unix(5, 0), Data: []byte(`{"target":7}`)}
	if _, err := w.log.Append(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	result, err := w.registry(w.db.Client()).Rebuild(t.Context(), w.log, nil)
	if err != nil || result.Parked != 1 || result.Events != 21 {
		t.Fatalf("%+v, %v", result, err)
	}
	parked, err := mongoledger.Open(w.db).Parked(t.Context(), subscription.Place{})
	if err != nil || len(parked) != 1 || parked[0].Group != versions.Group(2) || parked[0].Event != bad.ID {
		t.Fatalf("parked are %+v, %v", parked, err)
	}
}

func TestAGroupTellsItsVersion(t *testing.T) {
	for _, version := range []int{1, 2, 37} {
		if got, ok := versions.VersionOf(versions.Group(version)); !ok || got != version {
			t.Errorf("the group of version %d is of version %d, %v", version, got, ok)
		}
	}
	for _, group := range []string{"", "fraud-flags", "projections-v", "projections-v1", "projections-vx", "projections-daily"} {
		if version, ok := versions.VersionOf(group); ok {
			t.Errorf("%q is said to be of version %d", group, version)
		}
	}
}
