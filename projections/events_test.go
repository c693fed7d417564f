package projections_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/projections"
	"github.com/meet5/backend/projections/memstore"
	"github.com/meet5/backend/service/run"
	"github.com/meet5/backend/service/token"
)

// instance is a service of its own on a house's log, behind a real server.
type instance struct {
	*house
	service *projections.Service
	url     string
	stop    func()
}

func (h *house) instance() *instance {
	h.Helper()
	s, err := projections.New(projections.Config{}, projections.Deps{
		Activity: h.log, Store: memstore.New(), Logger: slog.New(slog.DiscardHandler),
		Verifier: token.NewVerifier(token.StaticKeySet{h.signer.KeyID(): h.signer.PublicKey()}, time.Now),
	})
	if err != nil {
		h.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := run.Group(ctx, s.Run, func(ctx context.Context) error {
			return run.HTTP(ctx, run.Server{Listener: listener, Handler: s.Handler()})
		}); err != nil {
			h.Error(err)
		}
	})
	i := &instance{house: h, service: s, url: "http://" + listener.Addr().String(), stop: sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})}
	h.Cleanup(i.stop)
	return i
}

// told is an event of a stream. Kind is empty if it is only an id.
type told struct {
	kind, id string
	data     struct {
		Type  string
		User  struct{ ID uuid.UUID }
		At    time.Time
		Event uuid.UUID
	}
}

func (e told) String() string { return e.kind + " " + e.data.User.ID.String() }

// stream is a member's connection.
type stream struct {
	*house
	body io.ReadCloser
	scan *bufio.Scanner
	last string // the last id
}

// connect asks for a member's events.
func (i *instance) connect(bearer, after string) *http.Response {
	i.Helper()
	r, err := http.NewRequestWithContext(i.ctx, http.MethodGet, i.url+"/v1/me/events", nil)
	if err != nil {
		i.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+bearer)
	if after != "" {
		r.Header.Set("Last-Event-ID", after)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		i.Fatal(err)
	}
	i.Cleanup(func() { _ = res.Body.Close() })
	return res
}

// follow opens a stream and waits until it stands.
func (i *instance) follow(member uuid.UUID, after string) *stream {
	i.Helper()
	res := i.connect(i.token(member), after)
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("Cache-Control") != "no-store" {
		b, _ := io.ReadAll(res.Body)
		i.Fatalf("%s %v: %s", res.Status, res.Header, b)
	}
	return &stream{house: i.house, body: res.Body, scan: bufio.NewScanner(res.Body), last: after}
}

// next reads up to the end of an event. ok is false at the end of the stream.
func (s *stream) next() (e told, ok bool) {
	s.Helper()
	for s.scan.Scan() {
		name, value, _ := strings.Cut(s.scan.Text(), ": ")
		switch name {
		case "id":
			e.id, s.last = value, value
		case "event":
			e.kind = value
		case "data":
			if err := json.Unmarshal([]byte(value), &e.data); err != nil {
				s.Fatalf("%v: %s", err, value)
			}
		case "":
			return e, true
		}
	}
	return e, false
}

// expect reads events until there are n, without mere ids.
func (s *stream) expect(n int) (list []told) {
	s.Helper()
	for len(list) < n {
		e, ok := s.next()
		if !ok {
			s.Fatalf("the stream ended after %v", list)
		}
		if e.kind != "" {
			list = append(list, e)
		}
	}
	return list
}

// begun waits until the stream says where it begins.
func (s *stream) begun() *stream {
	s.Helper()
	if e, ok := s.next(); !ok || e.kind != "" || e.id == "" {
		s.Fatalf("it begins with %v", e)
	}
	return s
}

func kinds(list []told) string {
	var out []string
	for _, e := range list {
		out = append(out, e.kind)
	}
	return strings.Join(out, " ")
}

func TestAMemberIsToldWhatHappensToThem(t *testing.T) {
	h := newHouse(t, memstore.New())
	anna, bert, cleo := uuid.New(), uuid.New(), uuid.New()
	h.append(events.ProfileVisited, cleo, anna, 1) // before anybody listens
	i := h.instance()
	toAnna, toBert, also := i.follow(anna, "").begun(), i.follow(bert, "").begun(), i.follow(anna, "").begun()
	h.append(events.ProfileVisited, anna, cleo, 2)
	h.append(events.ProfileVisited, bert, anna, 3)
	visit := toAnna.expect(1)[0]
	if visit.kind != "visit" || visit.data.Type != "visit" || visit.data.User.ID != bert || !visit.data.At.Equal(epoch.Add(3*time.Second)) || visit.data.Event == uuid.Nil {
		t.Errorf("told of the visit as %+v", visit)
	}
	h.append(events.ProfileLiked, bert, anna, 4)
	if got := toAnna.expect(1)[0]; got.kind != "like" || got.data.User.ID != bert {
		t.Errorf("told of the like as %v", got)
	}
	// What is told is in the lists.
	r, err := http.NewRequestWithContext(h.ctx, http.MethodGet, i.url+"/v1/me/likes/received", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+h.token(anna))
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(res.Body); err != nil || !strings.Contains(string(b), bert.String()) {
		t.Errorf("the likes are %v %s", err, b)
	}
	_ = res.Body.Close()
	h.append(events.ProfileLiked, anna, bert, 5)
	if got := toBert.expect(2); kinds(got) != "like match" || got[1].data.User.ID != anna || !got[1].data.At.Equal(epoch.Add(5*time.Second)) {
		t.Errorf("bert is told %v", got)
	}
	if got := toAnna.expect(1)[0]; got.kind != "match" || got.data.User.ID != bert {
		t.Errorf("anna is told of the match as %v", got)
	}
	if got := also.expect(3); kinds(got) != "visit like match" {
		t.Errorf("anna's other device is told %v", got)
	}
}

func TestNobodyIsToldOfTheHidden(t *testing.T) {
	h := newHouse(t, memstore.New())
	anna, bert, cleo := uuid.New(), uuid.New(), uuid.New()
	h.append(events.ProfileLiked, bert, anna, 1)
	i := h.instance()
	begin := i.follow(anna, "").begun()
	first := begin.last
	h.hide(bert)
	i.catchUp() // other partitions' events may be told before it is known here
	h.append(events.ProfileVisited, bert, anna, 2)
	h.append(events.ProfileLiked, anna, bert, 3) // a match that anna does not see
	h.append(events.ProfileVisited, cleo, anna, 4)
	if got := begin.expect(1); got[0].kind != "visit" || got[0].data.User.ID != cleo {
		t.Errorf("told of %v", got)
	}
	// Nor by one that starts only now, and reads all of it in the log.
	later := h.instance()
	later.catchUp()
	if got := later.follow(anna, first).expect(1); got[0].kind != "visit" || got[0].data.User.ID != cleo {
		t.Errorf("told by another instance of %v", got)
	}
}

// catchUp waits until the instance's read models hold what is in the log.
func (i *instance) catchUp() {
	i.Helper()
	if err := i.service.CatchUp(i.ctx); err != nil {
		i.Fatal(err)
	}
}

func (h *house) hide(user uuid.UUID) {
	h.Helper()
	if _, err := h.log.Append(h.ctx, events.Event{
		ID: uuid.New(), Type: events.ActorHidden, Stream: user, OccurredAt: epoch, Data: []byte(`{"cause":"` + uuid.NewString() + `"}`),
	}); err != nil {
		h.Fatal(err)
	}
}

// A member's connection breaks at any place, again and again, and goes on with
// another instance, older or just started. In the end they have been told of
// everything.
func TestWhoResumesMissesNothing(t *testing.T) {
	h := newHouse(t, memstore.New())
	anna := uuid.New()
	instances := []*instance{h.instance(), h.instance()}
	for _, i := range instances {
		i.follow(anna, "").begun().body.Close()
	}
	const visitors = 300
	want := make(map[uuid.UUID]bool)
	var people []uuid.UUID
	for range visitors {
		people = append(people, uuid.New())
	}
	random := rand.New(rand.NewPCG(7, 11))
	s := instances[0].follow(anna, "").begun()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n, p := range people {
			h.append(events.ProfileVisited, p, anna, n)
			h.append(events.ProfileVisited, p, uuid.New(), n)
		}
	}()
	for _, p := range people {
		want[p] = true
	}
	for turn := 0; len(want) > 0; turn++ {
		for range random.IntN(20) {
			if len(want) == 0 {
				break
			}
			for _, e := range s.expect(1) {
				delete(want, e.data.User.ID)
			}
		}
		last := s.last
		_ = s.body.Close()
		at := instances[random.IntN(len(instances))]
		if turn == 5 {
			instances[0].stop()
			instances[0] = h.instance()
			at = instances[0]
		}
		s = at.follow(anna, last)
	}
	<-done
}

func TestAStreamThatCannotBeResumedSaysSo(t *testing.T) {
	h := newHouse(t, memstore.New())
	i := h.instance()
	anna := uuid.New()
	for _, after := range []string{"x", "!!", i.follow(uuid.New(), "").begun().last} {
		if res := i.connect(i.token(anna), after); res.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("after %q: %s", after, res.Status)
		}
	}
	ahead := i.follow(anna, "").begun()
	for range 3 {
		h.append(events.ProfileVisited, uuid.New(), anna, 1)
	}
	ahead.expect(3)
	other := newHouse(t, memstore.New()) // another log, whose end is before that place
	other.signer = h.signer
	j := other.instance()
	got := j.follow(anna, ahead.last)
	if e := got.expect(1)[0]; e.kind != "reset" || e.data.Type != "reset" {
		t.Errorf("told %v", e)
	}
	other.append(events.ProfileVisited, uuid.New(), anna, 1)
	if e := got.expect(1)[0]; e.kind != "visit" {
		t.Errorf("then told %v", e)
	}
}

func TestAMemberHasABoundedNumberOfStreams(t *testing.T) {
	h := newHouse(t, memstore.New())
	i := h.instance()
	anna := uuid.New()
	var open []*stream
	for range 8 {
		open = append(open, i.follow(anna, "").begun())
	}
	res := i.connect(i.token(anna), "")
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("the ninth: %s %v", res.Status, res.Header)
	}
	i.follow(uuid.New(), "").begun() // others have room
	_ = open[0].body.Close()
	for { // once the server has noticed, there is room again
		res := i.connect(i.token(anna), "")
		if res.StatusCode == http.StatusOK {
			return
		}
		_ = res.Body.Close()
	}
}

func TestAStreamEndsWithItsTokenAndWithItsServer(t *testing.T) {
	h := newHouse(t, memstore.New())
	i := h.instance()
	now := time.Now()
	raw, err := h.signer.Sign(token.Claims{Subject: uuid.New(), Session: uuid.New(), IssuedAt: now, ExpiresAt: now.Add(2 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	res := i.connect(raw, "")
	if b, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(b), "\nid: ") {
		t.Errorf("%s %v %q", res.Status, err, b)
	}
	s := i.follow(uuid.New(), "").begun()
	i.stop()
	if e, ok := s.next(); ok {
		t.Errorf("told %v by a server that has ended", e)
	}
	if err := s.scan.Err(); err != nil {
		t.Errorf("the stream was torn, not ended: %v", err)
	}
}

func TestEventsNeedAToken(t *testing.T) {
	h := newHouse(t, memstore.New())
	get[object](h, "", "/v1/me/events", http.StatusUnauthorized)
}
