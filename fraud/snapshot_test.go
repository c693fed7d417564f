package fraud_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/fraud"
	"github.com/meet5/backend/fraud/register"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/fraud/side/snapshotdir"
)

// takeSnapshots takes one of each partition that rests, and says of how many.
func (r *running) takeSnapshots() int {
	r.Helper()
	taken, err := r.service.TakeSnapshots(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	return taken
}

// started counts the partitions that have started from something.
func (r *running) started(from string) (n int) {
	for _, o := range r.service.Origins() {
		if o == from {
			n++
		}
	}
	return n
}

// ledger is a group's.
func (r *running) ledger(group string) subscription.Ledger {
	r.Helper()
	for _, s := range r.service.Subscriptions() {
		if s.Group() == group {
			return s.Ledger()
		}
	}
	r.Fatalf("there is no group %s", group)
	return nil
}

// told is what a service tells of what rules have come to: evaluations, hits, and which
// of those it remembers.
func (r *running) told(ids ...string) (list []string) {
	r.Helper()
	for _, id := range ids {
		a := r.ask("GET", "/v1/moderation/rules/"+id, "", moderator, "moderator")
		if a.status == http.StatusNotFound {
			continue
		}
		var is struct {
			Hits    uint64
			Metrics struct {
				Evaluations   uint64
				UsersInAnHour int `json:"users_in_an_hour"`
			}
		}
		a.want(r, http.StatusOK).into(r, &is)
		list = append(list, fmt.Sprintf("%s: %+v", id, is))
		for next := "?limit=100"; next != ""; {
			var page struct{ Next string }
			a := r.ask("GET", "/v1/moderation/rules/"+id+"/hits"+next, "", moderator, "moderator").want(r, http.StatusOK)
			a.into(r, &page)
			list = append(list, string(a.body))
			if next = ""; page.Next != "" {
				next = "?limit=100&cursor=" + page.Next
			}
		}
	}
	return list
}

// sameTold fails unless a service with a book of one rule tells the same as one that has
// read all of history.
func (r *running) sameTold(book rule.Rule, ids ...string) {
	r.Helper()
	before := r.snapshots
	r.snapshots = nil
	whole := r.run(book)
	r.snapshots = before
	if diff := cmp.Diff(whole.told(ids...), r.told(ids...)); diff != "" {
		r.Errorf("(-all of history +from snapshots):\n%s", diff)
	}
	whole.stop()
}

// mortalSnapshots takes nothing in any more once its instance is dead.
type mortalSnapshots struct {
	fraud.Snapshots
	dead atomic.Bool
}

func (m *mortalSnapshots) Save(name string, write func(io.Writer) error) error {
	if m.dead.Load() {
		return nil
	}
	return m.Snapshots.Save(name, write)
}

// Whatever happens to rules and to the folders of snapshots while two instances run, each
// with a folder of its own, are restarted or killed, and members go on: which flags there
// are follows from the logs, and so does what rules have come to.
func TestFlagsFromSnapshotsAreThoseOfAReplay(t *testing.T) {
	fewer(t, 15)
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		store := w.sharedStore()
		book := []rule.Rule{likesRule("book", 3, 40)}
		ids := []string{"book", "one", "two"}
		dirs := []string{t.TempDir(), t.TempDir()}
		var instances [2]*instance
		var cameras [2]*mortalSnapshots
		spawn := func(i int) {
			cameras[i] = &mortalSnapshots{Snapshots: snapshotdir.Open(dirs[i])}
			w.snapshots = cameras[i]
			instances[i] = w.spawn(store, book...)
		}
		kill := func(i int) {
			cameras[i].dead.Store(true) // first: it believes what a dead ledger says
			instances[i].kill()
		}
		spawn(0)
		spawn(1)
		instances[0].put(likesRule("one", 3, 10), "new", nil).want(t, http.StatusCreated)
		instances[0].put(likesRule("two", 2, 10), "new", nil).want(t, http.StatusCreated)
		now := start
		does := []string{
			"act", "act", "act", "act", "follow", "follow", "mode", "put", "catch up",
			"snapshot", "snapshot", "snapshot", "restart", "kill", "kill", "damage", "delete",
		}
		for range rapid.IntRange(10, 40).Draw(rt, "steps") {
			i := rapid.IntRange(0, 1).Draw(rt, "instance")
			s := instances[i]
			id := rapid.SampledFrom(ids).Draw(rt, "rule")
			switch rapid.SampledFrom(does).Draw(rt, "what") {
			case "act":
				for range rapid.IntRange(1, 6).Draw(rt, "acts") {
					now = now.Add(time.Minute)
					w.post(likes(user(rapid.IntRange(0, 30).Draw(rt, "user")), rapid.IntRange(1, 4).Draw(rt, "likes"), now)...)
				}
				w.clock.Set(now)
			case "follow":
				s.follow()
			case "mode":
				to := rapid.SampledFrom([]rule.Mode{rule.Shadow, rule.Live, rule.Live, rule.Retired}).Draw(rt, "to")
				if a := s.setMode(id, to, true); a.status != http.StatusOK && a.status != http.StatusConflict {
					t.Fatalf("%d %s", a.status, a.body)
				}
			case "put":
				s.put(likesRule(id, rapid.IntRange(2, 4).Draw(rt, "threshold"), 10), "another", nil).want(t, http.StatusOK)
			case "catch up":
				s.catchUp()
			case "snapshot":
				s.takeSnapshots()
			case "restart":
				s.stop()
				spawn(i)
			case "kill":
				kill(i)
				spawn(i)
			case "damage":
				kill(i)
				if files := snapshotFiles(t, dirs[i]); len(files) > 0 {
					harm(t, rapid.SampledFrom(files).Draw(rt, "file"), rapid.Float64Range(0, 1).Draw(rt, "where"))
				}
				spawn(i)
			case "delete":
				if err := os.RemoveAll(dirs[i]); err != nil {
					t.Fatal(err)
				}
			}
		}
		instances[0].catchUp()
		taken := instances[0].takeSnapshots()
		kill(0)
		spawn(0)
		if n := instances[0].started("snapshot"); n < taken {
			t.Errorf("%d snapshots were taken, and only %d partitions started from one", taken, n)
		}
		instances[0].catchUp()
		instances[1].stop()
		want := w.expectedFlags()
		w.sameFlags(w.fraud, want)
		instances[0].sameTold(book[0], ids...)
		instances[0].stop()

		w.snapshots = nil
		replayed := w.openLog("fraud-replayed", events.FraudPartitions)
		w.copyRules(replayed)
		w.runOn(replayed, subscription.NewMemory(), book...).stop()
		w.sameFlags(replayed, want)
	})
}

func snapshotFiles(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// harm changes a byte of a file.
func harm(t testing.TB, file string, where float64) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[int(where*float64(len(b)-1))] ^= 0x24
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// neighbours are users of the first partition.
func neighbours(n int) (list []uuid.UUID) {
	for i := 0; len(list) < n; i++ {
		if events.PartitionOf(user(i), events.ActivityPartitions) == 0 {
			list = append(list, user(i))
		}
	}
	return list
}

// photographed is a world in which a service has counted two likes each of three users of
// the first partition, taken a snapshot, and stopped.
func photographed(t *testing.T, rules ...rule.Rule) (w *world, dir string, users []uuid.UUID) {
	t.Helper()
	w, dir, users = newWorld(t), t.TempDir(), neighbours(3)
	w.snapshots = snapshotdir.Open(dir)
	s := w.run(rules...)
	for _, u := range users {
		w.post(likes(u, 2, start)...)
	}
	s.catchUp()
	if n := s.takeSnapshots(); n != 1 {
		t.Fatalf("%d snapshots were taken, want 1", n)
	}
	s.stop()
	return w, dir, users
}

// relog gives a world another activity log of the same name.
func (w *world) relog() {
	w.Helper()
	db, err := boltlog.Open(filepath.Join(w.TempDir(), "other.db"))
	if err != nil {
		w.Fatal(err)
	}
	store, err := db.Log(events.ActivityLog, events.ActivityPartitions)
	if err != nil {
		w.Fatal(err)
	}
	w.activity = log.New(store, log.Options{Clock: w.clock.Now})
	w.reader = w.activity
	w.Cleanup(func() {
		w.activity.Close()
		if err := db.Close(); err != nil {
			w.Error(err)
		}
	})
}

func TestASnapshotIsUsedOnlyIfItIsOfThisLogAndTheseRulesAndWhole(t *testing.T) {
	three := likesRule("three-likes", 3, 40)
	shadow, four := three, three
	shadow.Mode, four.Threshold = rule.Shadow, 4
	rewrite := func(change func([]byte) []byte) func(*testing.T, *world, string) {
		return func(t *testing.T, _ *world, dir string) {
			file := filepath.Join(dir, "activity-0.snapshot")
			b, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(file, change(b), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	cases := []struct {
		name   string
		change func(*testing.T, *world, string)
		rule   rule.Rule
		want   string
	}{
		{"nothing has changed", func(*testing.T, *world, string) {}, three, "snapshot"},
		{"a rule's mode has changed", func(*testing.T, *world, string) {}, shadow, "snapshot"},
		{"a rule has changed", func(*testing.T, *world, string) {}, four, "rules"},
		{"it is cut off in the header", rewrite(func(b []byte) []byte { return b[:20] }), three, "damaged"},
		{"it is cut off before the header", rewrite(func(b []byte) []byte { return b[:7] }), three, "damaged"},
		{"it is cut off at the end", rewrite(func(b []byte) []byte { return b[:len(b)-1] }), three, "damaged"},
		{"it is empty", rewrite(func([]byte) []byte { return nil }), three, "damaged"},
		{"it is of another format", rewrite(func(b []byte) []byte { b[7]++; return b }), three, "build"},
		{"its header is harmed", rewrite(func(b []byte) []byte { b[40] ^= 1; return b }), three, "damaged"},
		{"its header's length is harmed", rewrite(func(b []byte) []byte { b[11] = 0xff; return b }), three, "damaged"},
		{"the engine's part is harmed", rewrite(func(b []byte) []byte { b[len(b)-50] ^= 1; return b }), three, "damaged"},
		{"it is of another partition", func(t *testing.T, _ *world, dir string) {
			if err := os.Rename(filepath.Join(dir, "activity-0.snapshot"), filepath.Join(dir, "activity-1.snapshot")); err != nil {
				t.Fatal(err)
			}
		}, three, "log"},
		{"the folder is deleted", func(t *testing.T, _ *world, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}, three, "none"},
		{"a folder stands where the file should", func(t *testing.T, _ *world, dir string) {
			file := filepath.Join(dir, "activity-0.snapshot")
			if err := errors.Join(os.Remove(file), os.Mkdir(file, 0o700)); err != nil {
				t.Fatal(err)
			}
		}, three, "unreadable"},
		{"the log has lost its end", func(_ *testing.T, w *world, _ string) { w.relog() }, three, "ahead"},
		{"it is another log", func(_ *testing.T, w *world, _ string) {
			w.relog()
			for _, u := range neighbours(3) {
				w.post(likes(u, 2, start)...)
			}
		}, three, "log"},
		{"the ledger is of before", func(t *testing.T, w *world, _ string) {
			w.side = newWorld(t).side
		}, three, "unraised"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w, dir, users := photographed(t, three)
			c.change(t, w, dir)
			s := w.run(c.rule)
			if got := s.started(c.want); got != 1 && (c.want != "none" || got != events.ActivityPartitions) {
				t.Errorf("%d partitions, of %v, started from %s", got, s.service.Origins(), c.want)
			}
			w.post(likes(users[0], 1, start.Add(time.Minute))...) // the third like, if it is that log
			s.catchUp()
			w.sameFlags(w.fraud, w.expectedFlags())
			s.sameTold(c.rule, "three-likes")
		})
	}
}

// Ordered rules have no snapshots: they must find what began before those of the others.
func TestOrderedRulesMissNothingBesideSnapshots(t *testing.T) {
	w := newWorld(t)
	w.snapshots = snapshotdir.Open(t.TempDir())
	rules := []rule.Rule{likesRule("three-likes", 3, 40), crowdRule("crowd", 3), ringRule("ring", 3)}
	s := w.run(rules...)
	w.post(likes(user(1), 2, start)...)
	w.post(likes(user(2), 2, start.Add(time.Minute))...)
	s.catchUp()
	taken := s.takeSnapshots()
	s.stop()
	s = w.run(rules...)
	if n := s.started("snapshot"); n == 0 || n != taken {
		t.Errorf("started from %v, and %d snapshots were taken", s.service.Origins(), taken)
	}
	w.post(likes(user(3), 3, start.Add(2*time.Minute))...)
	s.catchUp()
	raised := w.fraudEvents(w.fraud, events.FlagRaised)
	if len(raised) != 6 { // of the third user, of two who were liked, and of the ring
		t.Errorf("%d flags, want 6", len(raised))
	}
	w.sameFlags(w.fraud, w.expectedFlags())
}

// forgetful is an activity log whose first partition cannot be read from its beginning.
type forgetful struct{ log.Reader }

func (f forgetful) Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	if partition == 0 && after == 0 {
		return func(yield func(events.Commit, error) bool) { yield(events.Commit{}, errDown) }
	}
	return f.Reader.Read(ctx, partition, after)
}

func TestAStartFromASnapshotReadsNoHistory(t *testing.T) {
	three := likesRule("three-likes", 3, 40)
	w, _, users := photographed(t, three)
	w.reader = forgetful{w.activity}
	w.post(likes(users[1], 1, start.Add(time.Minute))...) // the first's evidence begins where the log does
	s := w.run(three)
	if n := s.started("snapshot"); n != 1 {
		t.Errorf("started from %v", s.service.Origins())
	}
	w.sameFlags(w.fraud, w.expectedFlags())
}

// A rule is taken to another version and back, and nobody runs while events pass whose
// flags the version between has to raise. Who starts with the first one's state must not
// miss them.
func TestASnapshotIsNotUsedWhileAPastVersionHasFlagsToRaise(t *testing.T) {
	three, two := likesRule("three-likes", 3, 40), likesRule("three-likes", 2, 40)
	w, _, users := photographed(t, three)
	put := func(r rule.Rule) {
		t.Helper()
		_, _, err := register.Commit(t.Context(), w.fraud, w.activity, w.clock.Now, func(g *register.Register) (events.Event, error) {
			return g.Put(r, register.Change{At: start, By: "anna", Why: "w"})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put(two)
	for _, u := range users {
		w.post(likes(u, 2, start.Add(2*time.Hour))...)
	}
	put(three)
	s := w.run(three)
	if n := s.started("past"); n != 1 {
		t.Errorf("started from %v", s.service.Origins())
	}
	if raised := w.fraudEvents(w.fraud, events.FlagRaised); len(raised) != len(users) {
		t.Errorf("%d flags, want those of the version between", len(raised))
	}
	w.sameFlags(w.fraud, w.expectedFlags())
}

func TestNoSnapshotIsTakenWhileAnEventIsParkedOrAfterItWasLeftOut(t *testing.T) {
	w, dir, users := newWorld(t), t.TempDir(), neighbours(3)
	w.snapshots = snapshotdir.Open(dir)
	w.post(likes(users[0], 1, start)...) // event 1
	w.post(likes(users[1], 3, start)...) // events 2 to 4, of which the second cannot be read
	w.reader = &crooked{Reader: w.activity, sequence: 2}
	s := w.run(likesRule("three-likes", 3, 40))
	until(t, "the event that hit is parked", func() bool { return s.parked("fraud-rules") == 1 })
	w.post(likes(users[1], 1, start.Add(time.Minute))...) // event 5, which nobody counts
	until(t, "the event that hit is parked, and the one behind it", func() bool { return s.parked("fraud-rules") == 2 })
	if n := s.takeSnapshots(); n != 0 {
		t.Errorf("a snapshot was taken while events are parked")
	}
	at := subscription.Place{Group: "fraud-rules", Log: events.ActivityLog}
	ledger := s.ledger(at.Group)
	if err := errors.Join(ledger.Order(t.Context(), at, 4, subscription.Drop), ledger.Order(t.Context(), at, 5, subscription.Drop)); err != nil {
		t.Fatal(err)
	}
	until(t, "they are dropped", func() bool { return s.parked("fraud-rules") == 0 })
	w.post(likes(users[2], 1, start)...)
	s.catchUp()
	if n := s.takeSnapshots(); n != 0 {
		t.Errorf("a snapshot was taken of a partition of which an event was left out")
	}
	s.stop()
	s = w.run(likesRule("three-likes", 3, 40))
	if n := s.takeSnapshots(); n != 1 {
		t.Errorf("%d snapshots were taken once everything had been counted", n)
	}
}

func TestNoSnapshotIsTakenWhileAFlagCannotBeRaised(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	store := w.sharedStore()
	w.snapshots = snapshotdir.Open(dir)
	s := w.spawn(store, likesRule("three-likes", 3, 40))
	u := neighbours(1)[0]
	w.post(likes(u, 1, start)...)
	s.catchUp()
	s.store.down.Store(true)
	w.post(likes(u, 2, start.Add(time.Minute))...)
	until(t, "the flag is refused", func() bool { return s.store.refused.Load() > 0 })
	if n := s.takeSnapshots(); n != 0 {
		t.Error("a snapshot was taken")
	}
	s.store.down.Store(false)
	s.catchUp()
	if n := s.takeSnapshots(); n != 1 {
		t.Error("no snapshot was taken once the flag was raised")
	}
	s.kill()
	s = w.spawn(store, likesRule("three-likes", 3, 40))
	if s.started("snapshot") != 1 {
		t.Errorf("started from %v", s.service.Origins())
	}
	w.sameFlags(w.fraud, w.expectedFlags())
}

// A fault that shows as a panic ends with its process, and with what was counted by half.
func TestNoSnapshotIsTakenOnceCountingHasPanicked(t *testing.T) {
	three := likesRule("three-likes", 3, 40)
	w, _, users := photographed(t, three)
	s := w.run(three)
	find := s.service.LoseEngine(0)
	w.post(likes(users[0], 1, start.Add(time.Minute))...)
	until(t, "the event is parked", func() bool { return s.parked("fraud-rules") == 1 })
	find()
	at := subscription.Place{Group: "fraud-rules", Log: events.ActivityLog}
	if err := s.ledger(at.Group).Order(t.Context(), at, 7, subscription.Retry); err != nil {
		t.Fatal(err)
	}
	until(t, "it is handled", func() bool { return s.parked("fraud-rules") == 0 })
	w.post(likes(users[1], 1, start.Add(time.Minute))...)
	s.catchUp()
	if n := s.takeSnapshots(); n != 0 {
		t.Error("a snapshot was taken")
	}
}

// shaky is an activity log whose first partition cannot be read so many times.
type shaky struct {
	log.Reader
	left atomic.Int64
}

func (s *shaky) Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	if partition == 0 && s.left.Add(-1) >= 0 {
		return func(yield func(events.Commit, error) bool) { yield(events.Commit{}, errDown) }
	}
	return s.Reader.Read(ctx, partition, after)
}

func TestTheLogIsAskedAFewTimesBeforeASnapshotIsGivenUp(t *testing.T) {
	three := likesRule("three-likes", 3, 40)
	w, _, _ := photographed(t, three)
	for faults, want := range map[int64]string{2: "snapshot", 3: "unreadable"} {
		r := &shaky{Reader: w.activity}
		r.left.Store(faults)
		w.reader = r
		s := w.run(three)
		if got := s.service.Origins()[0]; got != want {
			t.Errorf("after %d faults it started from %s, want %s", faults, got, want)
		}
		s.stop()
	}
}

// An instance that could not load a changed rule yet cannot say that the rule's flags are
// raised, so that what it has counted is of no use to the next start, and must not take
// the place of what is.
func TestNoSnapshotIsTakenByWhoHasNotLoadedARuleYet(t *testing.T) {
	w := newWorld(t)
	store := w.sharedStore()
	shadow := likesRule("three-likes", 3, 40)
	shadow.Mode = rule.Shadow
	u := neighbours(1)[0]
	w.post(likes(u, 1, start)...)
	a := w.spawn(store, shadow)
	slow := &deafReader{Reader: w.activity}
	w.reader, w.snapshots = slow, snapshotdir.Open(t.TempDir())
	b := w.spawn(store, shadow)
	if n := b.takeSnapshots(); n != 1 {
		t.Fatalf("%d snapshots were taken", n)
	}
	slow.toHistory.Store(true)
	a.setMode("three-likes", rule.Live, false).want(t, http.StatusOK)
	a.kill()
	w.post(likes(u, 2, start.Add(time.Minute))...)
	b.follow()
	if n := b.takeSnapshots(); n != 0 {
		t.Error("a snapshot was taken")
	}
	b.kill()
	w.reader = w.activity
	s := w.spawn(store, shadow)
	if s.started("snapshot") != 1 {
		t.Errorf("started from %v", s.service.Origins())
	}
	w.sameFlags(w.fraud, w.expectedFlags())
}

// busy makes so many events of users of the first partition.
func (w *world) busy(n int) {
	w.Helper()
	users := neighbours(10)
	var evs []events.Event
	for i := range n {
		a := likes(users[i%len(users)], 1, start.Add(time.Duration(i)*time.Second))[0]
		evs = append(evs, a.event())
	}
	for part := range slices.Chunk(evs, 500) {
		if _, err := w.activity.Append(w.Context(), part...); err != nil {
			w.Fatal(err)
		}
	}
}

func TestSnapshotsAreTakenAtAnOrderlyStopIfTheySaveSomething(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	w.snapshots = snapshotdir.Open(dir)
	for _, c := range []struct {
		more int
		want string
	}{{fraud.SnapshotWorth - 1, "none"}, {1, "snapshot"}} {
		s := w.run(likesRule("three-likes", 3, 40))
		w.busy(c.more)
		s.catchUp()
		s.stop()
		s = w.run(likesRule("three-likes", 3, 40))
		if got := s.service.Origins()[0]; got != c.want {
			t.Errorf("after %d more events it started from %s, want %s", c.more, got, c.want)
		}
		s.sameTold(likesRule("three-likes", 3, 40), "three-likes")
		s.stop()
	}
}

func TestSnapshotsAreTakenNowAndThen(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	w.snapshots, w.metrics = snapshotdir.Open(dir), prometheus.NewRegistry()
	s := w.run(likesRule("three-likes", 3, 40))
	w.busy(fraud.SnapshotWorth)
	s.catchUp()
	w.clock.Set(start.Add(fraud.SnapshotEvery))
	until(t, "there is a snapshot", func() bool {
		list, err := filepath.Glob(filepath.Join(dir, "activity-0.snapshot"))
		return err == nil && len(list) == 1
	})
	until(t, "the figures tell", func() bool {
		list, err := w.metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, f := range list {
			if strings.HasPrefix(f.GetName(), "meet5_fraud_snapshot_") || f.GetName() == "meet5_fraud_partition_starts_total" {
				told = append(told, f.GetName())
			}
		}
		return slices.Equal(told, []string{
			"meet5_fraud_partition_starts_total", "meet5_fraud_snapshot_age_seconds", "meet5_fraud_snapshot_bytes",
			"meet5_fraud_snapshot_failures_total", "meet5_fraud_snapshot_held_seconds", "meet5_fraud_snapshot_write_seconds",
		})
	})
}

func TestSnapshotsAreTakenAtOnceWhenOtherRulesHaveReadAllOfHistory(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	w.snapshots = snapshotdir.Open(dir)
	three := likesRule("three-likes", 3, 40)
	s := w.run(three)
	w.busy(fraud.SnapshotWorth)
	s.catchUp()
	s.takeSnapshots()
	s.put(likesRule("two-likes", 2, 40), "another", nil).want(t, http.StatusCreated)
	s.setMode("two-likes", rule.Shadow, true).want(t, http.StatusOK)
	s.catchUp()
	until(t, "a snapshot is of both", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "activity-0.snapshot"))
		return err == nil && bytes.Contains(b, []byte("two-likes"))
	})
	s.stop()
	s = w.run(three)
	if s.started("snapshot") != 1 {
		t.Errorf("started from %v", s.service.Origins())
	}
	s.sameTold(three, "three-likes", "two-likes")
}

func TestASnapshotIsDueAfterAWhileInWhichEnoughHappened(t *testing.T) {
	const every, worth, long = fraud.SnapshotEvery, fraud.SnapshotWorth, 24 * time.Hour
	for _, c := range []struct {
		age, failed time.Duration
		more        uint64
		want        bool
	}{
		{every, long, worth, true},
		{every - 1, long, worth, false},
		{every - 1, long, 1000 * worth, false},
		{long, long, worth - 1, false},
		{long, long, 0, false},
		{long, time.Second, worth, false},
		{long, time.Minute, worth, true},
	} {
		if got := fraud.IsSnapshotDue(c.age, c.failed, c.more); got != c.want {
			t.Errorf("%v after the last, %v after a failure, %d events: %v", c.age, c.failed, c.more, got)
		}
	}
}

func TestASnapshotThatWouldBeTooLargeIsNotTaken(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	w.snapshots = snapshotdir.Open(dir)
	s := w.run(likesRule("three-likes", 3, 40))
	w.post(likes(user(1), 2, start)...)
	s.catchUp()
	s.service.LimitSnapshots(100)
	if _, err := s.service.TakeSnapshots(t.Context()); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("error %v", err)
	}
	if files := snapshotFiles(t, dir); len(files) > 0 {
		t.Errorf("there are %v", files)
	}
}

func TestTheFolderMayBeDeletedWhileAServiceRuns(t *testing.T) {
	w, dir, users := photographed(t, likesRule("three-likes", 3, 40))
	s := w.run(likesRule("three-likes", 3, 40))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	w.post(likes(users[0], 3, start.Add(time.Minute))...)
	s.catchUp()
	if n := s.takeSnapshots(); n != 1 {
		t.Errorf("%d snapshots were taken", n)
	}
	w.sameFlags(w.fraud, w.expectedFlags())
}

// More hits than are remembered, in the order of their times only by chance, and
// snapshots of various moments.
func TestTheHitsThatAreRememberedAreThoseOfAllOfHistory(t *testing.T) {
	w := newWorld(t)
	w.snapshots = snapshotdir.Open(t.TempDir())
	s := w.run(likesRule("every-like", 1, 40))
	post := func(from, to int) {
		for i := from; i < to; i++ {
			w.post(likes(user(i), 1, start.Add(time.Duration(i*7919%1301)*time.Second))...)
		}
		s.catchUp()
	}
	post(0, fraud.MaxHits*3/4)
	s.takeSnapshots()
	post(fraud.MaxHits*3/4, fraud.MaxHits*5/4)
	s.stop()
	s = w.run(likesRule("every-like", 1, 40))
	if n := s.started("snapshot"); n != events.ActivityPartitions {
		t.Fatalf("%d partitions started from snapshots", n)
	}
	s.sameTold(likesRule("every-like", 1, 40), "every-like")
}

func TestPagesHoldWhatIsWrittenUpToABound(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789"), 300_000)
	got, err := fraud.Pages(len(large)+5, []byte("ab"), large, nil, []byte("cde"))
	if err != nil || !bytes.Equal(got, slices.Concat([]byte("ab"), large, []byte("cde"))) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := fraud.Pages(len(large), large, []byte("a")); err == nil {
		t.Error("more than the bound was taken")
	}
}
