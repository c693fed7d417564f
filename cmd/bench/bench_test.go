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
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

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

func realServices(b *testing.B) backend.Where {
	w := backend.Where{Mongo: os.Getenv("MONGODB_URI"), AMQP: os.Getenv("AMQP_URL"), Prefix: "bench-" + uuid.NewString()[:8]}
	if w.Mongo == "" || w.AMQP == "" {
		b.Skip("AMQP_URL and MONGODB_URI are not set: make bench brings up the real services")
	}
	return w
}

// BenchmarkImportToReadModels takes 157,474 visits in on the real services until
// they are in MongoDB's read models, beside the bare driver that makes one
// guarded upsert an event, in unordered bulk writes of 1,000 by four callers.
func BenchmarkImportToReadModels(b *testing.B) {
	accounts, out := stream()
	var ours, bare, written time.Duration
	for b.Loop() {
		where := realServices(b)
		back, _, stop := start(b, where)
		if err := ingest.Accounts(b.Context(), back.User, accounts); err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		take(b, &backend.Tools{Stores: back.Stores, Logs: back.Logs, User: back.User}, nil, out)
		written += time.Since(begin)
		if err := back.Projections.CatchUp(b.Context()); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(begin)
		client, err := mongo.Connect(options.Client().ApplyURI(where.Mongo))
		if err != nil {
			b.Fatal(err)
		}
		begin = time.Now()
		bareUpserts(b, client.Database(where.Prefix+"_bare").Collection("visits"), out)
		bare += time.Since(begin)
		stop()
		for _, db := range []string{"log", "user", "projections", "fraud", "bare"} {
			if err := client.Database(where.Prefix + "_" + db).Drop(b.Context()); err != nil {
				b.Error(err)
			}
		}
		_ = client.Disconnect(b.Context())
	}
	n := float64(b.N * len(out))
	b.ReportMetric(n/written.Seconds(), "appended-events/s")
	b.ReportMetric(n/ours.Seconds(), "read-model-events/s")
	b.ReportMetric(n/bare.Seconds(), "bare-upserts/s")
	b.ReportMetric(bare.Seconds()/ours.Seconds(), "ratio")
}

func bareUpserts(b testing.TB, c *mongo.Collection, out []ingest.Act) {
	const callers, batch = 4, 1000
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for from := caller * batch; from < len(out); from += callers * batch {
				var models []mongo.WriteModel
				for i, a := range out[from:min(from+batch, len(out))] {
					n := int64(from + i + 1)
					models = append(models, mongo.NewUpdateOneModel().SetUpsert(true).
						SetFilter(bson.D{{Key: "_id", Value: fmt.Sprintf("%s/%s", a.Actor, a.Target)}, {Key: "pos", Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gte", Value: n}}}}}}).
						SetUpdate(bson.D{{Key: "$set", Value: bson.D{{Key: "pos", Value: n}, {Key: "last_at", Value: a.At}}}, {Key: "$inc", Value: bson.D{{Key: "count", Value: 1}}}}))
				}
				if _, err := c.BulkWrite(context.Background(), models, options.BulkWrite().SetOrdered(false)); err != nil && !mongo.IsDuplicateKeyError(err) {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkAppendBatches appends 157,474 visits to the log on MongoDB, in batches
// and with nobody following, beside the bare driver that inserts the same commit
// documents, one goroutine a partition as the log has.
func BenchmarkAppendBatches(b *testing.B) {
	accounts, out := stream()
	var ours, bare time.Duration
	for b.Loop() {
		where := realServices(b)
		t := tools(b, where)
		if err := ingest.Accounts(b.Context(), t.User, accounts); err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		take(b, t, nil, out)
		ours += time.Since(begin)
		client, err := mongo.Connect(options.Client().ApplyURI(where.Mongo))
		if err != nil {
			b.Fatal(err)
		}
		bare += insertBare(b, t, client.Database(where.Prefix+"_bare", options.Database().SetWriteConcern(writeconcern.Majority())))
		if err := t.Close(); err != nil {
			b.Fatal(err)
		}
		for _, db := range []string{"log", "user", "projections", "fraud", "bare"} {
			if err := client.Database(where.Prefix + "_" + db).Drop(b.Context()); err != nil {
				b.Error(err)
			}
		}
		_ = client.Disconnect(b.Context())
	}
	n := float64(b.N * len(out))
	b.ReportMetric(n/ours.Seconds(), "events/s")
	b.ReportMetric(n/bare.Seconds(), "bare-events/s")
	b.ReportMetric(bare.Seconds()/ours.Seconds(), "of-bare")
}

// insertBare inserts the log's commits anew and returns how long that took.
func insertBare(b testing.TB, t *backend.Tools, db *mongo.Database) time.Duration {
	documents := make([][]bson.D, t.Activity.Partitions())
	for p := range documents {
		for c, err := range t.Activity.Read(b.Context(), p, 0) {
			if err != nil {
				b.Fatal(err)
			}
			documents[p] = append(documents[p], bson.D{
				{Key: "_id", Value: int64(c.First)}, {Key: "n", Value: c.Count}, //nolint:gosec // a sequence
				{Key: "w", Value: c.Writer[:]}, {Key: "t", Value: c.RecordedAt}, {Key: "e", Value: c.Bytes()},
			})
		}
	}
	for p := range documents { // as the log's, with the index that guards keys
		if _, err := db.Collection(strconv.Itoa(p)).Indexes().CreateOne(b.Context(), mongo.IndexModel{
			Keys: bson.D{{Key: "k", Value: 1}}, Options: options.Index().SetUnique(true).SetSparse(true),
		}); err != nil {
			b.Fatal(err)
		}
	}
	begin := time.Now()
	var wg sync.WaitGroup
	for p := range documents {
		wg.Go(func() {
			for _, d := range documents[p] {
				if _, err := db.Collection(strconv.Itoa(p)).InsertOne(context.Background(), d); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begin)
}
