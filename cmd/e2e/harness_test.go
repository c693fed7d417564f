package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/events/servertest"
)

const (
	adminEmail = "root@example.org"
	password   = "correct horse battery"
	// patience bounds the wait for something that should show at once.
	patience = 30 * time.Second
)

// bothWays runs a test on the embedded stores and on real services.
func bothWays(t *testing.T, test func(t *testing.T, where backend.Where)) {
	t.Run("embedded", func(t *testing.T) { test(t, backend.Where{Data: t.TempDir()}) })
	t.Run("real services", func(t *testing.T) { test(t, realServices(t)) })
}

// realServices names databases and exchanges of the test's own.
func realServices(t *testing.T) backend.Where {
	t.Helper()
	w := backend.Where{Mongo: servertest.Mongo(t), AMQP: servertest.AMQP(t), Prefix: "e2e-" + uuid.NewString()[:8]}
	client := servertest.Client(t)
	for _, db := range []string{"log", "user", "projections", "fraud", "activity"} {
		servertest.Dropped(t, client.Database(w.Prefix+"_"+db))
	}
	return w
}

// house is a backend that runs.
type house struct {
	t *testing.T
	*backend.Backend
	url  string
	stop func()
}

func open(t *testing.T, where backend.Where) *house {
	t.Helper()
	return openWith(t, backend.Config{Where: where})
}

// openWith opens a house with an admin of the tests' own.
func openWith(t *testing.T, cfg backend.Config) *house {
	t.Helper()
	cfg.AdminEmail, cfg.AdminPassword = adminEmail, password
	logger := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	b, err := backend.New(t.Context(), cfg, logger)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx, listener) }()
	h := &house{t: t, Backend: b, url: "http://" + listener.Addr().String()}
	h.stop = sync.OnceFunc(func() {
		cancel()
		http.DefaultClient.CloseIdleConnections()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Cleanup(h.stop)
	ready, cancelReady := context.WithTimeout(t.Context(), patience)
	defer cancelReady()
	if err := b.WaitReady(ready); err != nil {
		t.Fatal(err)
	}
	return h
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

// client is somebody at the front door.
type client struct {
	*house
	id    uuid.UUID
	token string
}

// answer is what came back.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
}

// into reads the body as JSON.
func (a answer) into(v any) answer {
	a.t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		a.t.Fatalf("%v: %s", err, a.body)
	}
	return a
}

// is fails the test unless the answer has that status.
func (a answer) is(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// ask asks again while the house says that it is busy and until when, as a client
// does: a slow machine makes it say so. What a busy house says, outage_test checks.
func ask(r *http.Request, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	for until := time.Now().Add(patience); ; {
		res, err := send(r)
		if err != nil || res.StatusCode != http.StatusServiceUnavailable || r.Body != nil && r.GetBody == nil {
			return res, err
		}
		seconds, err := strconv.Atoi(res.Header.Get("Retry-After"))
		again := time.Duration(seconds) * time.Second
		if err != nil || time.Now().Add(again).After(until) {
			return res, nil
		}
		if err := res.Body.Close(); err != nil {
			return nil, err
		}
		if r.GetBody != nil {
			if r.Body, err = r.GetBody(); err != nil {
				return nil, err
			}
		}
		select {
		case <-time.After(again):
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
	}
}

func (c *client) send(method, path, contentType string, body io.Reader, header ...string) answer {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := ask(r, http.DefaultClient.Do)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer{c.t, res.StatusCode, res.Header, b}
}

func (c *client) get(path string) answer {
	c.t.Helper()
	return c.send(http.MethodGet, path, "", nil)
}

func (c *client) post(path string, body any) answer {
	c.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.send(http.MethodPost, path, "application/json", bytes.NewReader(b))
}

type object map[string]any

// register makes an account and signs in to it.
func (h *house) register(handle string) *client {
	h.t.Helper()
	c := &client{house: h}
	var u struct{ ID uuid.UUID }
	c.post("/v1/users", object{
		"handle": handle, "email": handle + "@example.org", "password": password, "display_name": strings.ToUpper(handle), "birth_date": "1990-01-31", "city": "Frankfurt",
	}).is(http.StatusCreated).into(&u)
	c.id = u.ID
	c.signIn(handle)
	return c
}

func (c *client) signIn(login string) {
	c.t.Helper()
	var s struct {
		AccessToken string `json:"access_token"`
	}
	(&client{house: c.house}).post("/v1/sessions", object{"login": login, "password": password}).is(http.StatusCreated).into(&s)
	c.token = s.AccessToken
}

// as signs in to an account that is there.
func (h *house) as(login string) *client {
	h.t.Helper()
	c := &client{house: h}
	c.signIn(login)
	var u struct{ ID uuid.UUID }
	c.get("/v1/me").is(http.StatusOK).into(&u)
	c.id = u.ID
	return c
}

// with registers an account with roles.
func (h *house) with(handle string, roles ...string) *client {
	h.t.Helper()
	c := h.register(handle)
	h.as("admin").post("/v1/admin/users/"+c.id.String()+"/roles", object{"roles": roles}).is(http.StatusOK)
	c.signIn(handle)
	return c
}

func (c *client) act(kind string, target uuid.UUID) answer {
	c.t.Helper()
	return c.post("/v1/activities", object{"type": kind, "target": target})
}

// tryBatch posts lines.
func (c *client) tryBatch(lines []object) answer {
	c.t.Helper()
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	for _, l := range lines {
		if err := e.Encode(l); err != nil {
			c.t.Fatal(err)
		}
	}
	return c.send(http.MethodPost, "/v1/activities/batch", "application/x-ndjson", &body)
}

// batch posts lines and returns what became of each.
func (c *client) batch(lines []object) []object {
	c.t.Helper()
	a := c.tryBatch(lines).is(http.StatusOK)
	var out []object
	for s := bufio.NewScanner(bytes.NewReader(a.body)); s.Scan(); {
		var o object
		if err := json.Unmarshal(s.Bytes(), &o); err != nil {
			c.t.Fatalf("%v: %s", err, s.Bytes())
		}
		out = append(out, o)
	}
	if len(out) != len(lines) {
		c.t.Fatalf("%d lines came back for %d", len(out), len(lines))
	}
	return out
}

// list is a page of any list.
type list struct {
	Items []object
	Next  string
}

func (c *client) list(path string) list {
	c.t.Helper()
	var l list
	c.get(path).is(http.StatusOK).into(&l)
	return l
}

// eventually asks until the answer is as wanted; what it last was is in the
// failure.
func eventually(t *testing.T, what string, ask func() (got any, ok bool)) {
	t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for {
		got, ok := ask()
		if ok {
			t.Logf("%s: after %v", what, time.Since(begin).Round(time.Millisecond))
			return
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, got)
		}
	}
}

func names(l list) string {
	var out []string
	for _, i := range l.Items {
		u := i["user"].(map[string]any)
		out = append(out, fmt.Sprint(u["handle"]))
	}
	return strings.Join(out, " ")
}
