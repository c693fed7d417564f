package main_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/events/subscription/boltledger"
	"github.com/meet5/backend/events/subscription/mongoledger"
)

// copied is a copy of a data folder with changes made to its log file, behind
// the program's back.
func copied(t *testing.T, dir string, change func(tx *bolt.Tx) error) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(to, "log.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		t.Fatal(err)
	}
	return to
}

// commits are the keys of a bucket's commits: their first sequences.
func commits(b *bolt.Bucket) (firsts [][]byte) {
	_ = b.ForEach(func(k, _ []byte) error { firsts = append(firsts, slices.Clone(k)); return nil })
	return firsts
}

// raw is what a test does to a stored commit.
type raw func(b []byte)

// at is a commit of a file: its bucket and its key.
type at struct {
	log       string
	partition int
	first     uint64
}

func (a at) String() string { return fmt.Sprintf("%s/%d at %d: ", a.log, a.partition, a.first) }
func (a at) key() []byte    { return binary.BigEndian.AppendUint64(nil, a.first) }

func (a at) bucket(tx *bolt.Tx) *bolt.Bucket {
	return tx.Bucket(fmt.Appendf(nil, "%s/p%02d", a.log, a.partition))
}

// change changes the commit's bytes.
func (a at) change(do raw) func(tx *bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		b := slices.Clone(a.bucket(tx).Get(a.key()))
		do(b)
		return a.bucket(tx).Put(a.key(), b)
	}
}

// threeCommits finds partitions of the activity log with three commits or more,
// and returns the first sequences of each.
func threeCommits(t *testing.T, dir string, partitions int) (found [][]at) {
	t.Helper()
	copied(t, dir, func(tx *bolt.Tx) error {
		for p := range events.ActivityPartitions {
			a := at{log: events.ActivityLog, partition: p}
			if firsts := commits(a.bucket(tx)); len(firsts) > 2 {
				var list []at
				for _, k := range firsts {
					list = append(list, at{a.log, p, binary.BigEndian.Uint64(k)})
				}
				found = append(found, list)
			}
		}
		return nil
	})
	if len(found) < partitions {
		t.Fatalf("%d partitions have three commits, %d are needed", len(found), partitions)
	}
	return found
}

func flipped(b []byte) { b[len(b)-9] ^= 1 }

// TestVerifyFindsAllThatIsHarmedInAFile: every harm in one file, each in a place of
// its own, each found, whatever else is harmed.
func TestVerifyFindsAllThatIsHarmedInAFile(t *testing.T) {
	t.Parallel()
	dir := simulated(t)
	if e := must(t, "verify", "--data", dir); !strings.Contains(e.err, "all promises hold") || strings.Count(e.out, "dense, no faults") != 3 {
		t.Fatalf("unharmed: %+v", e)
	}
	const kinds = 7
	found := threeCommits(t, dir, kinds)
	var want []string
	var changes []func(tx *bolt.Tx) error
	harm := func(where at, finding string, changing func(tx *bolt.Tx) error) {
		want = append(want, where.String()+finding)
		changes = append(changes, changing)
	}
	place := func(a at) string { return fmt.Sprintf("bucket activity/p%02d, key %d, page ", a.partition, a.first) }

	second, third := found[0][1], found[0][2]
	harm(second, place(second), second.change(flipped))
	last := found[1][len(found[1])-1]
	harm(last, place(last), last.change(flipped))
	gone := found[2][1]
	harm(gone, fmt.Sprintf("sequences %d to %d are missing", gone.first, found[2][2].first-1), func(tx *bolt.Tx) error { return gone.bucket(tx).Delete(gone.key()) })
	swapped := found[3][1]
	harm(swapped, place(swapped), func(tx *bolt.Tx) error {
		return swapped.bucket(tx).Put(swapped.key(), slices.Clone(third.bucket(tx).Get(third.key())))
	})
	later := found[4][0]
	harm(later, place(later), later.change(func(b []byte) { b[3]++ }))
	short := found[5][1]
	harm(short, place(short), func(tx *bolt.Tx) error {
		b := slices.Clone(short.bucket(tx).Get(short.key()))
		return short.bucket(tx).Put(short.key(), b[:len(b)/2])
	})
	foreign := at{log: events.ActivityLog, partition: found[6][0].partition}
	want = append(want, fmt.Sprintf("activity/%d: bucket activity/p%02d, key 666f6f, page ", foreign.partition, foreign.partition))
	changes = append(changes, func(tx *bolt.Tx) error { return foreign.bucket(tx).Put([]byte("foo"), []byte("bar")) })
	want = append(want, "user/0 at 1: the store does not guard a key of this event", "user/0 at 1: bucket user/k00, key 6e6f626f6479", "user/0 at 99999999: bucket user/k00, key 6e6f7768657265")
	changes = append(changes, func(tx *bolt.Tx) error {
		claims := tx.Bucket([]byte("user/k00"))
		var first []byte
		_ = claims.ForEach(func(k, v []byte) error {
			if first == nil && strings.HasPrefix(string(k), "claim:") && binary.BigEndian.Uint64(v) == 1 {
				first = slices.Clone(k)
			}
			return nil
		})
		return errors.Join(claims.Delete(first), claims.Put([]byte("nobody"), at{first: 1}.key()), claims.Put([]byte("nowhere"), at{first: 99999999}.key()))
	})

	spoilt := copied(t, dir, func(tx *bolt.Tx) error {
		for _, change := range changes {
			if err := change(tx); err != nil {
				return err
			}
		}
		return nil
	})
	ledger, err := boltledger.Open(filepath.Join(spoilt, "activity.db"))
	if err != nil {
		t.Fatal(err)
	}
	ahead := subscription.Checkpoint{Place: subscription.Place{Group: "somebody", Log: events.FraudLog}, Sequence: 7_000_000}
	if err := errors.Join(ledger.Save(t.Context(), ahead), ledger.Close()); err != nil {
		t.Fatal(err)
	}
	want = append(want, "to 7000000 are missing: the subscription somebody has worked through them")
	e := command(t, "verify", "--json", "--data", spoilt)
	if e.code != failed || strings.Contains(e.err, "all promises hold") {
		t.Errorf("exit code %d", e.code)
	}
	for _, what := range append(want, "format version 2, this build reads 1", fmt.Sprintf("%d faults found", len(want))) {
		// The user's first commit may start its first claim later than at 1.
		what = strings.TrimPrefix(what, "user/0 at 1: the")
		if !strings.Contains(e.err, what) {
			t.Errorf("it does not say %q", what)
		}
	}
	var sums []struct {
		Log      string
		Findings int
	}
	if err := json.Unmarshal([]byte(e.out), &sums); err != nil || len(sums) != 3 || sums[1].Log != "activity" || sums[1].Findings != kinds {
		t.Errorf("--json: %v: %s", err, e.out)
	}
	if t.Failed() {
		t.Logf("it says\n%s", e.err)
	}
}

// TestVerifyOfAFileThatIsCutOff: verify counts what is gone, and reads the rest.
func TestVerifyOfAFileThatIsCutOff(t *testing.T) {
	t.Parallel()
	dir := simulated(t)
	whole, err := os.ReadFile(filepath.Join(dir, "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	for _, size := range []int{0, 1, 100, page, page + 90, 2 * page, 2*page + 1, 5 * page, len(whole) / 3, len(whole)/2 - 7} {
		spoilt := filepath.Join(t.TempDir(), "data")
		if err := os.CopyFS(spoilt, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(spoilt, "log.db")
		if err := os.Truncate(file, int64(size)); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"verify", "--data", spoilt}, {"replay", "activity", "--data", spoilt}, {"up", "--listen", "127.0.0.1:0", "--data", spoilt}} {
			e := command(t, args...)
			if e.code != failed || !strings.Contains(e.err, file) || !strings.Contains(e.err, fmt.Sprintf("it has %d bytes", size)) || strings.Contains(e.err, "goroutine") {
				t.Errorf("%d bytes: %s: exit code %d: %.2000s", size, args[0], e.code, e.err)
			}
		}
		if after, err := os.ReadFile(file); err != nil || string(after) != string(whole[:size]) {
			t.Errorf("%d bytes: the file was changed (%v)", size, err)
		}
	}
}

// TestVerifyNamesAHarmedPage: a page of the tree is lost, and with it what only it
// leads to; the rest is checked.
func TestVerifyNamesAHarmedPage(t *testing.T) {
	t.Parallel()
	dir := copied(t, simulated(t), func(*bolt.Tx) error { return nil })
	file := filepath.Join(dir, "log.db")
	harmed := 0
	if i, err := boltlog.Inspect(file, func(f boltlog.Fault) { t.Errorf("before: %v", f) }); err != nil {
		t.Fatal(err)
	} else {
		for e, err := range i.Log(events.ActivityLog, events.ActivityPartitions).Entries(t.Context(), 5) {
			if err != nil || e.Err != nil {
				t.Fatal(err, e.Err)
			}
			if _, err := fmt.Sscanf(e.Place, "bucket activity/p05, key 1, page %d", &harmed); err == nil {
				break
			}
		}
		if err := i.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if harmed == 0 {
		t.Fatal("the first commit of activity/5 is nowhere")
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{0xff, 0xff}, int64(harmed*os.Getpagesize())+8) // its flags
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	e := command(t, "verify", "--data", dir)
	if what := fmt.Sprintf("%s: page %d of bucket activity/p05, from byte %d on: its flags are ffff", file, harmed, harmed*os.Getpagesize()); e.code != failed || !strings.Contains(e.err, what) {
		t.Errorf("exit code %d, it does not say %q but:\n%s", e.code, what, e.err)
	}
	if strings.Contains(e.err, "activity/p06") || !strings.Contains(e.out, "user: 1 partitions") {
		t.Errorf("the rest: %s%s", e.out, e.err)
	}
	e = command(t, "up", "--listen", "127.0.0.1:0", "--data", dir)
	if e.code != failed || !strings.Contains(e.err, fmt.Sprintf("page %d", harmed)) || !strings.Contains(e.err, "meet5 verify") {
		t.Errorf("up: exit code %d: %s", e.code, e.err)
	}
}

// TestUpServesWithAHarmedPartitionAndNamesIt: it starts, says what is wrong and
// where, is alive but not ready, and writes nothing over what is harmed.
func TestUpServesWithAHarmedPartitionAndNamesIt(t *testing.T) {
	t.Parallel()
	dir := simulated(t)
	list := threeCommits(t, dir, 1)[0]
	last := list[len(list)-1]
	dir = copied(t, dir, last.change(flipped))
	before := command(t, "verify", "--data", dir)

	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	var said said
	cmd := exec.Command(path, "up", "--listen", listen, "--data", dir) //nolint:gosec // our own program
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	status := func(path string) (int, string) {
		r, err := http.Get("http://" + listen + path) //nolint:noctx // the process is ended when the test gives up
		if err != nil {
			return 0, ""
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return 0, ""
		}
		return r.StatusCode, string(b)
	}
	deadline := time.Now().Add(time.Minute)
	place := fmt.Sprintf("bucket activity/p%02d, key %d: ", last.partition, last.first)
	for !strings.Contains(said.String(), place) {
		if time.Now().After(deadline) {
			t.Errorf("it does not say %q but:\n%s", place, said.String())
			break
		}
		time.Sleep(time.Millisecond)
	}
	for code, body := status("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, `"projections-subscriptions":{"status":"failed"`); code, body = status("/readyz") {
		if code == http.StatusOK || time.Now().After(deadline) {
			t.Errorf("/readyz: %d %s", code, body)
			break
		}
	}
	if code, _ := status("/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d", code)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if after := command(t, "verify", "--data", dir); after.code != failed || !strings.Contains(after.err, last.String()) || strings.Count(after.err, "\n") != strings.Count(before.err, "\n") {
		t.Errorf("before: %s\nafter: %s", before.err, after.err)
	}
}

// said is what a process has said so far.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// visitsOf is a file with so many visits by each of some actors.
func visitsOf(t *testing.T, actors, visits int) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("who,whom,at\n")
	for v := range visits {
		for a := range actors {
			fmt.Fprintf(&b, "actor%d,target%d,%d\n", a, v, 1_000_000+v)
		}
	}
	return write(t, "visits.csv", b.String())
}

// TestVerifyFindsAllThatIsHarmedOnMongoDB does the same where documents are.
func TestVerifyFindsAllThatIsHarmedOnMongoDB(t *testing.T) {
	t.Parallel()
	w := realServices(t)
	for n := range 3 { // so that partitions have three commits
		mustInside(t, append([]string{"import", visitsOf(t, 80, 2+n), "--actor", "who", "--target", "whom", "--time", "at"}, flags(w)...)...)
	}
	must(t, append([]string{"verify"}, flags(w)...)...)
	dbs, client, err := backend.Connect(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(t.Context())
	coll := func(p int) *mongo.Collection {
		return dbs.Log.Collection(mongolog.CollectionName(events.ActivityLog, p))
	}
	firstsOf := func(p int) (firsts []int64) {
		cur, err := coll(p).Find(t.Context(), bson.D{})
		if err != nil {
			t.Fatal(err)
		}
		var docs []struct {
			ID int64 `bson:"_id"`
		}
		if err := cur.All(t.Context(), &docs); err != nil {
			t.Fatal(err)
		}
		for _, d := range docs {
			firsts = append(firsts, d.ID)
		}
		slices.Sort(firsts)
		return firsts
	}
	var want []string
	next := 0
	// partition takes the next partition with three commits and says where its
	// second one is.
	partition := func() (p int, second, third int64, last int64) {
		for ; next < events.ActivityPartitions; next++ {
			if f := firstsOf(next); len(f) > 2 {
				next++
				return next - 1, f[1], f[2], f[len(f)-1]
			}
		}
		t.Fatal("too few partitions have three commits")
		return 0, 0, 0, 0
	}
	set := func(p int, id int64, field string, value any) {
		t.Helper()
		r, err := coll(p).UpdateByID(t.Context(), id, bson.D{{Key: "$set", Value: bson.D{{Key: field, Value: value}}}})
		if err != nil || r.ModifiedCount != 1 {
			t.Fatalf("%s of %d/%d: %v %+v", field, p, id, err, r)
		}
	}
	bytesOf := func(p int, id int64) []byte {
		t.Helper()
		var d struct {
			E bson.Binary `bson:"e"`
		}
		if err := coll(p).FindOne(t.Context(), bson.D{{Key: "_id", Value: id}}).Decode(&d); err != nil {
			t.Fatal(err)
		}
		return d.E.Data
	}
	expect := func(p int, id int64, what string) {
		want = append(want, fmt.Sprintf("activity/%d at %d: collection %s, _id %d: %s", p, id, coll(p).Name(), id, what))
	}
	corrupt := events.ErrCorrupt.Error()

	p, second, _, last := partition()
	b := bytesOf(p, second)
	flipped(b)
	set(p, second, "e", bson.Binary{Data: b})
	expect(p, second, corrupt+": checksum")
	set(p, last, "w", "somebody")
	expect(p, last, corrupt+`: its field "w" is "somebody", the commit says`)

	p, second, _, last = partition()
	set(p, last, "e", bson.Binary{Data: bytesOf(p, last)[:60]})
	expect(p, last, corrupt)
	set(p, second, "n", 1)
	expect(p, second, corrupt+`: its field "n"`)

	var third int64
	p, second, third, _ = partition()
	if _, err := coll(p).DeleteOne(t.Context(), bson.D{{Key: "_id", Value: second}}); err != nil {
		t.Fatal(err)
	}
	want = append(want, fmt.Sprintf("activity/%d at %d: sequences %d to %d are missing", p, second, second, third-1))
	set(p, third, "t", "noon")
	expect(p, third, corrupt+`: its field "t" is "noon"`)

	p, second, third, _ = partition()
	set(p, second, "e", bson.Binary{Data: bytesOf(p, third)})
	expect(p, second, fmt.Sprintf("%s: it holds commit %d of activity/%d; sequences %d to %d cannot be read", corrupt, third, p, second, third-1))
	for id, what := range map[any]string{"foo": `_id "foo"`, 2.5: "_id {\"$numberDouble\":\"2.5\"}", uuid.Nil.String(): "_id "} {
		if _, err := coll(p).InsertOne(t.Context(), bson.D{{Key: "_id", Value: id}, {Key: "hello", Value: 1}}); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf("activity/%d: collection %s, %s", p, coll(p).Name(), what))
	}

	p, second, _, _ = partition()
	b = bytesOf(p, second)
	b[3]++
	set(p, second, "e", bson.Binary{Data: b})
	expect(p, second, corrupt+": format version 2, this build reads 1")
	set(p, 1, "k", []string{"zz", "6162"})
	want = append(want, fmt.Sprintf("activity/%d: collection %s, _id 1: %s: a key in its field %q", p, coll(p).Name(), corrupt, "k"))
	expect(p, 1, "the store guards a key that no event of this commit takes")

	users := dbs.Log.Collection(mongolog.CollectionName(events.UserLog, 0))
	if _, err := users.UpdateByID(t.Context(), int64(1), bson.D{{Key: "$pop", Value: bson.D{{Key: "k", Value: -1}}}}); err != nil {
		t.Fatal(err)
	}
	want = append(want, "user/0 at 1: the store does not guard a key of this event")
	if err := dbs.Log.Collection(mongolog.CollectionName(events.FraudLog, 0)).Indexes().DropOne(t.Context(), "held"); err != nil {
		t.Fatal(err)
	}
	want = append(want, `check log fraud: fraud.p00 has no unique index on "k"`)
	ahead := subscription.Checkpoint{Place: subscription.Place{Group: "somebody", Log: events.FraudLog}, Sequence: 7_000_000}
	if err := mongoledger.Open(dbs.User).Save(t.Context(), ahead); err != nil {
		t.Fatal(err)
	}
	want = append(want, "to 7000000 are missing: the subscription somebody has worked through them")

	e := command(t, append([]string{"verify"}, flags(w)...)...)
	if e.code != failed {
		t.Errorf("exit code %d", e.code)
	}
	for _, what := range want {
		if !strings.Contains(e.err, what) {
			t.Errorf("it does not say %q", what)
		}
	}
	if t.Failed() {
		t.Logf("it says\n%s%s", e.err, e.out)
	}
}
