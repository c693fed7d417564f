package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/cmd/ingest"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/service/run"
)

const (
	actors, targets = 8_000, 1_000
	acts            = 157_474 // as many as the real file has
	connections     = 64
)

var quiet = slog.New(slog.DiscardHandler)

// stream makes up acts of the real file's size and shape.
func stream() (accounts []ingest.Account, out []ingest.Act) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range actors + targets {
		accounts = append(accounts, ingest.Account{ID: events.DeriveID(uuid.NameSpaceOID, strconv.Itoa(i)), Name: strconv.Itoa(i), JoinedAt: start})
	}
	for i := range acts {
		out = append(out, ingest.Act{
			ID: events.DeriveID(uuid.NameSpaceURL, strconv.Itoa(i)), Kind: activity.Visit, Actor: accounts[i*7919%actors].ID,
			Target: accounts[actors+i*104_729/8%targets].ID, At: start.Add(time.Duration(i) * time.Second), JoinedAt: start,
		})
	}
	return accounts, out
}

// take writes a stream into the logs.
func take(b testing.TB, t *backend.Tools, accounts []ingest.Account, out []ingest.Act) {
	b.Helper()
	ctx := b.Context()
	if err := ingest.Accounts(ctx, t.User, accounts); err != nil {
		b.Fatal(err)
	}
	w, err := ingest.NewWriter(ctx, t.Logs.Activity, t.Logs.User)
	if err != nil {
		b.Fatal(err)
	}
	for _, a := range out {
		if err := w.Add(ctx, a); err != nil {
			b.Fatal(err)
		}
	}
	if n, err := w.Flush(ctx); err != nil || n.Written != len(out) {
		b.Fatal(n, err)
	}
}

func tools(b testing.TB, w backend.Where) *backend.Tools {
	b.Helper()
	t, err := backend.OpenTools(b.Context(), w, quiet)
	if err != nil {
		b.Fatal(err)
	}
	return t
}

// BenchmarkImportEmbedded takes 157,474 visits of 9,000 accounts into files,
// accounts, fsyncs and all.
func BenchmarkImportEmbedded(b *testing.B) {
	accounts, out := stream()
	for b.Loop() {
		b.StopTimer()
		t := tools(b, backend.Where{Data: b.TempDir()})
		b.StartTimer()
		take(b, t, accounts, out)
		b.StopTimer()
		if err := t.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N*len(out))/b.Elapsed().Seconds(), "events/s")
}

// start runs a backend and returns its address and what stops it.
func start(b testing.TB, w backend.Where) (*backend.Backend, string, func()) {
	b.Helper()
	back, err := backend.New(b.Context(), backend.Config{Where: w, AdminEmail: "root@example.org", AdminPassword: "correct horse battery"}, quiet)
	if err != nil {
		b.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- back.Run(ctx, listener) }()
	if err := back.WaitReady(b.Context()); err != nil {
		b.Fatal(err)
	}
	return back, "http://" + listener.Addr().String(), func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		if err := back.Close(); err != nil {
			b.Error(err)
		}
	}
}

// BenchmarkRestartEmbedded starts everything on 157,474 visits, until every read
// model is rebuilt from them.
func BenchmarkRestartEmbedded(b *testing.B) {
	accounts, out := stream()
	where := backend.Where{Data: b.TempDir()}
	t := tools(b, where)
	take(b, t, accounts, out)
	if err := t.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		_, _, stop := start(b, where)
		b.StopTimer()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MiB")
		stop()
		b.StartTimer()
	}
}

// BenchmarkOneActivity posts single activities over 64 connections through the
// gateway, with a token, into files; and, in turn, the same JSON to a bare echo
// handler that only decodes it. Of one member they all go to one partition; 64
// members spread them over all.
func BenchmarkOneActivity(b *testing.B) {
	for _, members := range []int{1, connections} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) { oneActivity(b, members) })
	}
}

func oneActivity(b *testing.B, members int) {
	accounts, _ := stream()
	where := backend.Where{Data: b.TempDir()}
	back, url, stop := start(b, where)
	defer stop()
	if err := ingest.Accounts(b.Context(), back.User, accounts); err != nil {
		b.Fatal(err)
	}
	var tokens []string
	for i := range members {
		tokens = append(tokens, signUp(b, url, fmt.Sprintf("member%d", i)))
	}
	bare := bareEcho(b)
	var spent [2]time.Duration
	const chunk = 4096
	for b.Loop() {
		for i, to := range []string{bare, url + "/v1/activities"} {
			begin := time.Now()
			load(b, to, tokens, accounts, chunk)
			spent[i] += time.Since(begin)
		}
	}
	n := float64(b.N * chunk)
	b.ReportMetric(n/spent[0].Seconds(), "bare-req/s")
	b.ReportMetric(n/spent[1].Seconds(), "activity-req/s")
	b.ReportMetric(spent[0].Seconds()/spent[1].Seconds(), "ratio")
}

func signUp(b testing.TB, url, handle string) string {
	post := func(path string, body map[string]string) []byte {
		sent, err := json.Marshal(body)
		if err != nil {
			b.Fatal(err)
		}
		res, err := http.Post(url+path, "application/json", bytes.NewReader(sent)) //nolint:noctx // a benchmark's own server
		if err != nil {
			b.Fatal(err)
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusCreated {
			b.Fatal(res.Status, string(answer), err)
		}
		return answer
	}
	post("/v1/users", map[string]string{"handle": handle, "email": handle + "@example.org", "password": "correct horse battery", "display_name": "Anna", "birth_date": "1990-01-31"})
	var s struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(post("/v1/sessions", map[string]string{"login": handle, "password": "correct horse battery"}), &s); err != nil {
		b.Fatal(err)
	}
	return s.AccessToken
}

// bareEcho is the limit: a handler that does nothing but decode.
func bareEcho(b testing.TB) string {
	e := echo.New()
	e.POST("/", func(c echo.Context) error {
		var body struct {
			Type   string    `json:"type"`
			Target uuid.UUID `json:"target"`
		}
		if err := json.NewDecoder(c.Request().Body).Decode(&body); err != nil {
			return err
		}
		return c.NoContent(http.StatusCreated)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run.HTTP(ctx, run.Server{Listener: listener, Handler: e}) }()
	b.Cleanup(func() {
		cancel()
		<-ended
	})
	return "http://" + listener.Addr().String() + "/"
}

// load makes n requests over 64 connections.
func load(b testing.TB, url string, tokens []string, accounts []ingest.Account, n int64) {
	client := &http.Client{Transport: transport()}
	var left atomic.Int64
	left.Store(n)
	var wg sync.WaitGroup
	for c := range connections {
		token := tokens[c%len(tokens)]
		wg.Go(func() {
			for {
				i := left.Add(-1)
				if i < 0 {
					return
				}
				body := `{"type":"visit","target":"` + accounts[i%int64(len(accounts))].ID.String() + `"}`
				r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, strings.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Authorization", "Bearer "+token)
				res, err := client.Do(r)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if res.StatusCode != http.StatusCreated {
					b.Errorf("status %s", res.Status)
					return
				}
			}
		})
	}
	wg.Wait()
}

// transport keeps the connections of all loads alive.
var transport = sync.OnceValue(func() *http.Transport {
	return &http.Transport{MaxIdleConnsPerHost: connections, MaxIdleConns: 4 * connections}
})
