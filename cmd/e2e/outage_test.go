package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
)

const (
	// longest is how long a request may take, whatever is down.
	longest = 15 * time.Second
	// enough is how many posts of each member show that posting goes well.
	enough = 10
	// inBatch is how many lines the batches of a member have who posts in batches.
	inBatch = 20
)

// With the broker or the database gone, what cannot be made durable is answered
// with 503 and Retry-After, nothing that was answered with 201 is lost, and all of
// it recovers by itself: each part below takes a service away from members who
// post without pause, gives it back, and holds their answers against the log. One
// process lives through all of them.
func TestOutage(t *testing.T) {
	tr := newTraffic(t, privateServices(t))
	t.Run("without the broker everything goes on", func(t *testing.T) {
		tr.in(t)
		tr.withoutBroker()
	})
	t.Run("without the database nothing is promised", func(t *testing.T) {
		tr.in(t)
		tr.withoutDatabase()
	})
	t.Run("a database that stands still is waited for or not", func(t *testing.T) {
		tr.in(t)
		tr.withFrozenDatabase()
	})
}

func (tr *traffic) withoutBroker() {
	heard := tr.listen(tr.members[0])
	refused := tr.mark((*member).wasRefused)
	tr.start()
	tr.more("posts before the outage", (*member).wasAcknowledged, enough)
	giveBack := tr.cut("kill", "start", "broker")
	tr.more("posts without the broker", (*member).wasAcknowledged, enough)

	newcomer := tr.house.register("newcomer")
	tr.members[0].act("visit", newcomer.id).is(http.StatusCreated)
	tr.others++
	eventually(tr.t, "the newcomer's visitors, without the broker", func() (any, bool) {
		l := newcomer.list("/v1/me/visitors")
		return l, len(l.Items) == 1
	})
	tr.stop()
	tr.settled()

	giveBack()
	tr.start()
	tr.more("posts after the outage", (*member).wasAcknowledged, enough)
	// Heads are compared anyway, so that the lists do not show whether the bus is
	// back: listen to it.
	after := tr.members[0].last.Load()
	eventually(tr.t, "what the bus brings", func() (any, bool) {
		now := heard.Load()
		return fmt.Sprintf("sequence %d, want one above %d", now, after), now > after
	})
	tr.stop()
	tr.settled()
	for m, before := range refused {
		if n := m.wasRefused() - before; n > 0 {
			tr.t.Errorf("%s: %d posts were refused although only the broker was gone", m.handle, n)
		}
	}
}

func (tr *traffic) withoutDatabase() {
	tr.start()
	tr.more("posts before the outage", (*member).wasAcknowledged, enough)
	giveBack := tr.cut("kill", "start", "database")
	questions := tr.ask()
	tr.more("posts that are refused", (*member).wasRefused, 1)
	questions.Wait()
	giveBack()
	tr.recover()
}

// What was asked while the database stood still is answered in time, and well if
// the database goes on before that.
func (tr *traffic) withFrozenDatabase() {
	tr.start()
	tr.more("posts before the outage", (*member).wasAcknowledged, enough)
	giveBack := tr.cut("pause", "resume", "database")
	questions := tr.ask()
	tr.more("posts that are refused", (*member).wasRefused, 1)
	giveBack()
	questions.Wait()
	tr.recover()
}

// recover waits until posting goes well again. What was refused may be in the
// log, once; sent again, it is there for certain.
func (tr *traffic) recover() {
	tr.t.Helper()
	tr.more("posts after the outage", (*member).wasAcknowledged, enough)
	tr.stop()
	before := tr.log()
	tr.agrees(before)
	tr.sendAgain(before)
	tr.settled()
}

// services are real ones of the test's own, to be ill-treated.
type services struct {
	script, run string
	where       backend.Where
}

func privateServices(t *testing.T) services {
	t.Helper()
	script, err := filepath.Abs(filepath.Join("..", "..", "deploy", "testing", "services"))
	if err != nil {
		t.Fatal(err)
	}
	// The exports are quoted for a shell.
	const up = `exports=$("$0" up --private) || exit; eval "$exports"; printf '%s\n' "$MEET5_TEST_RUN" "$MONGODB_URI" "$AMQP_URL"`
	const noWay = 3 // the script's exit code where services cannot be had
	out, err := exec.Command("bash", "-c", up, script).Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		if failed.ExitCode() == noWay && os.Getenv("CI") == "" {
			t.Skipf("OUTAGES ARE NOT TESTED: %s", failed.Stderr)
		}
		t.Fatalf("services up: %v: %s", err, failed.Stderr)
	}
	said := strings.Fields(string(out))
	if err != nil || len(said) != 3 {
		t.Fatalf("services up: %v: %q", err, out)
	}
	s := services{script: script, run: said[0], where: backend.Where{Mongo: said[1], AMQP: said[2]}}
	t.Cleanup(func() { s.do(t, "down") })
	return s
}

func (s services) do(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command(s.script, args...)
	cmd.Env = append(os.Environ(), "MEET5_TEST_RUN="+s.run)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("services %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// traffic is members who visit each other.
type traffic struct {
	services
	t       *testing.T
	house   *house
	admin   *client
	members []*member
	others  int // activities of nobody's posting
	// down says that the database certainly does nothing.
	down atomic.Bool
	// end ends the posting, and posting counts who has not ended.
	end     context.CancelFunc
	posting sync.WaitGroup
}

// member posts visits, one request after the other.
type member struct {
	*client
	handle string
	// lines is how many visits a request has: 1, or those of a batch.
	lines int
	posts []post // the poster's alone while there is one

	acknowledged, refused atomic.Int64
	last                  atomic.Uint64 // the last sequence that was answered
}

// post is a visit and its last answer.
type post struct {
	id, target uuid.UUID
	status     int
	at         events.Position
	again      bool // it had to be sent again
}

func (m *member) wasAcknowledged() int64 { return m.acknowledged.Load() }
func (m *member) wasRefused() int64      { return m.refused.Load() }

// newTraffic opens a house on the services.
func newTraffic(t *testing.T, s services) *traffic {
	t.Helper()
	where := s.where
	where.Prefix = "outage-" + uuid.NewString()[:8]
	tr := &traffic{services: s, t: t, house: open(t, where), end: func() {}}
	eventually(t, "readiness", func() (any, bool) {
		a := (&client{house: tr.house}).get("/readyz")
		return string(a.body), a.status == http.StatusOK
	})
	tr.admin = tr.house.as("admin")
	for i, lines := range []int{1, 1, 1, 1, inBatch} {
		handle := "member" + strconv.Itoa(i)
		tr.members = append(tr.members, &member{client: tr.house.register(handle), handle: handle, lines: lines})
	}
	return tr
}

// in makes t the test that faults are faults of.
func (tr *traffic) in(t *testing.T) { tr.t, tr.house.t = t, t }

// cut takes a service away. The returned function gives it back, at the test's
// end at the latest.
func (tr *traffic) cut(take, give, service string) (giveBack func()) {
	t := tr.t
	t.Helper()
	giveBack = sync.OnceFunc(func() {
		tr.down.Store(false)
		tr.do(t, give, service)
	})
	t.Cleanup(giveBack)
	tr.do(t, take, service)
	tr.down.Store(service == "database")
	return giveBack
}

func (tr *traffic) start() {
	ctx, end := context.WithCancel(context.Background())
	tr.end = end
	for i := range tr.members {
		tr.posting.Go(func() { tr.post(ctx, i) })
	}
	tr.t.Cleanup(tr.stop)
}

// stop returns when what is under way has been answered.
func (tr *traffic) stop() {
	tr.end()
	tr.posting.Wait()
}

// post makes a member visit the others in turn until ctx ends.
func (tr *traffic) post(ctx context.Context, member int) {
	m := tr.members[member]
	for ctx.Err() == nil {
		visits := make([]post, m.lines)
		for i := range visits {
			other := 1 + (len(m.posts)+i)%(len(tr.members)-1)
			visits[i] = post{id: uuid.New(), target: tr.members[(member+other)%len(tr.members)].id}
		}
		down := tr.down.Load()
		err := m.send(visits)
		down = down && tr.down.Load()
		m.posts = append(m.posts, visits...)
		if err != nil {
			tr.t.Errorf("%s: %v", m.handle, err)
			return
		}
		for _, p := range visits {
			switch {
			case p.status == http.StatusServiceUnavailable:
				m.refused.Add(1)
			case p.status != http.StatusCreated:
				tr.t.Errorf("%s: the new visit %s was answered with %d", m.handle, p.id, p.status)
				return
			case down:
				tr.t.Errorf("%s: visit %s was answered with 201 and %v, and there was no database", m.handle, p.id, p.at)
				return
			default:
				m.acknowledged.Add(1)
				m.last.Store(p.at.Sequence)
			}
		}
	}
}

// send posts visits in one request and notes their answers. It fails if an answer
// does not come in time or is not as it should be.
func (m *member) send(visits []post) error {
	path, contentType := "/v1/activities", "application/json"
	if m.lines > 1 {
		path, contentType = "/v1/activities/batch", "application/x-ndjson"
	}
	var body bytes.Buffer
	for _, p := range visits {
		if err := json.NewEncoder(&body).Encode(object{"type": "visit", "target": p.target, "id": p.id}); err != nil {
			return err
		}
	}
	a, err := m.client.within(longest, http.MethodPost, path, contentType, &body)
	if err != nil {
		return err
	}
	if a.status == http.StatusServiceUnavailable {
		for i := range visits {
			visits[i].status = a.status
		}
		return a.later()
	}
	if m.lines == 1 && a.status != http.StatusCreated && a.status != http.StatusOK || m.lines > 1 && a.status != http.StatusOK {
		return fmt.Errorf("POST %s: status %d: %s", path, a.status, a.body)
	}
	lines := json.NewDecoder(bytes.NewReader(a.body))
	for i := range visits {
		line := struct {
			Status    int
			ID        uuid.UUID
			Partition int
			Sequence  uint64
		}{Status: a.status}
		if err := lines.Decode(&line); err != nil || line.ID != visits[i].id {
			return fmt.Errorf("POST %s: line %d is not of %s (%w): %s", path, i+1, visits[i].id, err, a.body)
		}
		visits[i].status, visits[i].at = line.Status, events.Position{Partition: line.Partition, Sequence: line.Sequence}
	}
	return nil
}

// within asks as send does, from any goroutine, and fails if the answer does not
// come in time.
func (c *client) within(d time.Duration, method, path, contentType string, body io.Reader) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Authorization", "Bearer "+c.token)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return answer{c.t, res.StatusCode, res.Header, b}, nil
}

// later fails unless the answer is a problem that says when to come again.
func (a answer) later() error {
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	if a.status != http.StatusServiceUnavailable || a.header.Get("Content-Type") != "application/problem+json" || err != nil || seconds < 1 {
		return fmt.Errorf("status %d, %s, Retry-After %q, want a 503 problem with Retry-After: %s",
			a.status, a.header.Get("Content-Type"), a.header.Get("Retry-After"), a.body)
	}
	return nil
}

// ask asks everything that needs the database, at once. An answer that comes
// while the database is down is a 503; once it is back, it may be good.
func (tr *traffic) ask() *sync.WaitGroup {
	m, late := tr.members[0], "late"+uuid.NewString()[:8]
	var asked sync.WaitGroup
	for _, q := range []struct {
		who          *client
		method, path string
		body         object
	}{
		{tr.admin, http.MethodGet, "/v1/logs", nil},
		{tr.admin, http.MethodGet, "/v1/logs/activity/events", nil},
		{m.client, http.MethodGet, "/v1/me", nil},
		{m.client, http.MethodGet, "/v1/me/likes/received", nil},
		{m.client, http.MethodGet, "/v1/me/matches", nil},
		{m.client, http.MethodGet, "/v1/me/stats", nil},
		{m.client, http.MethodGet, "/v1/me/visitors", nil},
		{m.client, http.MethodGet, "/v1/users/" + m.id.String(), nil},
		{tr.admin, http.MethodGet, "/v1/moderation/users/" + m.id.String(), nil},
		{m.client, http.MethodPost, "/v1/sessions", object{"login": m.handle, "password": password}},
		{m.client, http.MethodPost, "/v1/users", object{
			"handle": late, "email": late + "@example.org", "password": password, "display_name": "Late", "birth_date": "1990-01-31",
		}},
	} {
		asked.Go(func() {
			body, err := json.Marshal(q.body)
			if err != nil {
				tr.t.Error(err)
				return
			}
			began := time.Now()
			a, err := q.who.within(longest, q.method, q.path, "application/json", bytes.NewReader(body))
			tr.t.Logf("%s %s: %d after %v", q.method, q.path, a.status, time.Since(began).Round(time.Millisecond))
			good := a.status == http.StatusOK || a.status == http.StatusCreated
			if err == nil && (!good || tr.down.Load()) {
				err = a.later()
			}
			if err != nil {
				tr.t.Errorf("%s %s without a database: %v", q.method, q.path, err)
			}
		})
	}
	tr.t.Cleanup(asked.Wait)
	return &asked
}

// listen notes up to which sequence the bus has brought what a member posted.
func (tr *traffic) listen(m *member) *atomic.Uint64 {
	tr.t.Helper()
	subscriber, err := tr.house.Follow("")
	if err != nil {
		tr.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	partition := events.PartitionOf(m.id, events.ActivityPartitions)
	messages, err := subscriber.Subscribe(ctx, bus.Topic(events.ActivityLog, partition))
	if err != nil {
		cancel()
		tr.t.Fatal(err)
	}
	var heard atomic.Uint64
	var listening sync.WaitGroup
	listening.Go(func() {
		for message := range messages {
			if c, err := bus.Commit(message); err != nil {
				tr.t.Error(err)
			} else {
				heard.Store(c.Last())
			}
			message.Ack()
		}
	})
	tr.t.Cleanup(func() { cancel(); listening.Wait() })
	return &heard
}

// mark notes where a count of each member's stands.
func (tr *traffic) mark(count func(*member) int64) map[*member]int64 {
	marks := make(map[*member]int64, len(tr.members))
	for _, m := range tr.members {
		marks[m] = count(m)
	}
	return marks
}

// more waits until the count of each member has grown by n, or something fails.
func (tr *traffic) more(what string, count func(*member) int64, n int64) {
	tr.t.Helper()
	from := tr.mark(count)
	eventually(tr.t, what, func() (any, bool) {
		var behind []string
		for _, m := range tr.members {
			if count(m) < from[m]+n {
				behind = append(behind, fmt.Sprintf("%s: %d acknowledged, %d refused", m.handle, m.wasAcknowledged(), m.wasRefused()))
			}
		}
		return behind, len(behind) == 0 || tr.t.Failed()
	})
	if tr.t.Failed() {
		tr.t.FailNow()
	}
}

// recorded is an activity as the log has it.
type recorded struct {
	ID        uuid.UUID
	Type      string
	Subject   uuid.UUID
	Partition int
	Sequence  uint64
	Data      struct{ Target uuid.UUID }
}

// log reads the whole activity log, which must be dense.
func (tr *traffic) log() map[uuid.UUID]recorded {
	tr.t.Helper()
	eventually(tr.t, "the log", func() (any, bool) {
		a := tr.admin.get("/v1/logs")
		return string(a.body), a.status == http.StatusOK
	})
	a := tr.admin.get("/v1/logs/activity/events").is(http.StatusOK)
	all := map[uuid.UUID]recorded{}
	var heads [events.ActivityPartitions]uint64
	for lines := json.NewDecoder(bytes.NewReader(a.body)); ; {
		var e recorded
		err := lines.Decode(&e)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			tr.t.Fatal(err)
		}
		if first, twice := all[e.ID]; twice {
			tr.t.Errorf("%s is in the log twice, at %d/%d and %d/%d", e.ID, first.Partition, first.Sequence, e.Partition, e.Sequence)
		}
		if heads[e.Partition]++; heads[e.Partition] != e.Sequence {
			tr.t.Fatalf("partition %d: sequence %d stands at place %d", e.Partition, e.Sequence, heads[e.Partition])
		}
		all[e.ID] = e
	}
}

// agrees checks that the log holds what was acknowledged, where it was said to
// be and in the order of its actor, and returns how much of it was posted.
func (tr *traffic) agrees(log map[uuid.UUID]recorded) (found int) {
	tr.t.Helper()
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	for _, m := range tr.members {
		last := uint64(0)
		for _, p := range m.posts {
			e, there := log[p.id]
			if there {
				found++
			}
			if there && (e.Subject != m.id || e.Data.Target != p.target || e.Type != events.ProfileVisited) {
				fault("%s posted %s, a visit of %s, and the log has %+v", m.handle, p.id, p.target, e)
			}
			if p.status == http.StatusServiceUnavailable {
				continue
			}
			if at := (events.Position{Partition: e.Partition, Sequence: e.Sequence}); !there || at != p.at {
				fault("%s: %s was answered with %d and %v; in the log: %v, at %v", m.handle, p.id, p.status, p.at, there, at)
			}
			if p.again {
				continue
			}
			if p.at.Sequence <= last {
				fault("%s: %s was posted after what is at %d and stands at %d", m.handle, p.id, last, p.at.Sequence)
			}
			last = p.at.Sequence
		}
	}
	if n := len(faults); n > 0 {
		const shown = 10
		tr.t.Fatalf("%d faults, such as\n%s", n, strings.Join(faults[:min(n, shown)], "\n"))
	}
	return found
}

// sendAgain sends what was refused once more, with the same ID.
func (tr *traffic) sendAgain(before map[uuid.UUID]recorded) {
	tr.t.Helper()
	refused, late := 0, 0
	for _, m := range tr.members {
		for i := range m.posts {
			p := &m.posts[i]
			if p.status != http.StatusServiceUnavailable {
				continue
			}
			if err := m.send(m.posts[i : i+1]); err != nil {
				tr.t.Fatalf("%s: %s again: %v", m.handle, p.id, err)
			}
			want := http.StatusCreated
			if _, there := before[p.id]; there {
				want = http.StatusOK
				late++
			}
			if p.status != want {
				tr.t.Fatalf("%s: %s again: status %d, want %d", m.handle, p.id, p.status, want)
			}
			p.again = true
			refused++
		}
	}
	tr.t.Logf("%d posts were refused, %d of them are in the log all the same", refused, late)
}

// settled checks that every post is in the log once, with nothing else but what
// others did, and that the lists of visitors come to say the same.
func (tr *traffic) settled() {
	tr.t.Helper()
	all := tr.log()
	posted := 0
	for _, m := range tr.members {
		posted += len(m.posts)
	}
	if found := tr.agrees(all); found != posted || len(all) != posted+tr.others {
		tr.t.Fatalf("%d posts; the log has %d of them, and %d events", posted, found, len(all))
	}
	want := map[uuid.UUID]map[uuid.UUID]int{}
	for _, e := range all {
		if want[e.Data.Target] == nil {
			want[e.Data.Target] = map[uuid.UUID]int{}
		}
		want[e.Data.Target][e.Subject]++
	}
	for _, m := range tr.members {
		eventually(tr.t, "the visitors of "+m.handle, func() (any, bool) {
			a := m.get("/v1/me/visitors")
			var l struct {
				Items []struct {
					User  struct{ ID uuid.UUID }
					Count int
				}
			}
			if a.status != http.StatusOK {
				return string(a.body), false
			}
			a.into(&l)
			got := map[uuid.UUID]int{}
			for _, i := range l.Items {
				got[i.User.ID] += i.Count
			}
			return fmt.Sprintf("%v, want %v", got, want[m.id]), maps.Equal(got, want[m.id])
		})
	}
}
