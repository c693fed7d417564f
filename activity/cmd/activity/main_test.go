package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/events/servertest"
	"github.com/meet5/backend/events/subscription/mongoledger"
	"github.com/meet5/backend/service/node"
	"github.com/meet5/backend/service/token"
)

// waitLimit ends a test whose condition never comes true.
const waitLimit = 30 * time.Second

// deployment is databases and exchanges under a prefix of its own.
type deployment struct {
	*testing.T
	ctx    context.Context
	flags  flags
	logs   *mongo.Database
	users  *log.Log
	signer *token.Signer
}

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	t.Cleanup(cancel)
	d := &deployment{T: t, ctx: ctx, flags: flags{Flags: node.Flags{
		Listen: "127.0.0.1:0", Mongo: servertest.Mongo(t), AMQP: servertest.AMQP(t), Prefix: "test-" + uuid.NewString()[:8],
	}}}
	client := servertest.Client(t)
	d.logs = servertest.Dropped(t, client.Database(d.flags.Prefix+"_log"))
	own := servertest.Dropped(t, client.Database(d.flags.Prefix+"_activity"))
	servertest.Undeclared(t, []string{d.flags.Prefix + "." + events.UserLog, d.flags.Prefix + "." + events.ActivityLog}, nil)
	for name, partitions := range map[string]int{events.UserLog: events.UserPartitions, events.ActivityLog: events.ActivityPartitions} {
		if err := mongolog.Create(ctx, d.logs, name, partitions); err != nil {
			t.Fatal(err)
		}
	}
	if err := mongoledger.Create(ctx, own); err != nil {
		t.Fatal(err)
	}
	d.users = log.New(mongolog.Open(d.logs, events.UserLog, events.UserPartitions), log.Options{})
	t.Cleanup(d.users.Close)
	d.publishKeys()
	return d
}

// publishKeys serves the keys of tokens as the user service does.
func (d *deployment) publishKeys() {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		d.Fatal(err)
	}
	if d.signer, err = token.NewSigner(key); err != nil {
		d.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/jwks.json", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(token.JWKS(d.signer.PublicKey()))
	})
	server := httptest.NewServer(mux)
	d.Cleanup(server.Close)
	d.flags.UserURL = []string{server.URL, "http://another.example"}
}

// start runs the program and returns its base URL, and how to stop it.
func (d *deployment) start() (base string, stop func()) {
	d.Helper()
	ctx, cancel := context.WithCancel(d.ctx)
	listening, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() {
		ended <- assemble(ctx, d.flags, func(a net.Addr) { listening <- a })
	}()
	select {
	case addr := <-listening:
		base = "http://" + addr.String()
	case err := <-ended:
		cancel()
		d.Fatalf("the program ended: %v", err)
	}
	return base, func() {
		cancel()
		if err := <-ended; err != nil {
			d.Errorf("the program ended with %v", err)
		}
	}
}

func (d *deployment) tell(user uuid.UUID, version uint64, eventType string, payload any) {
	d.Helper()
	data, err := json.Marshal(payload)
	if err != nil {
		d.Fatal(err)
	}
	if _, err := d.users.Append(d.ctx, events.Event{
		ID: uuid.New(), Type: eventType, Stream: user, Version: version, OccurredAt: time.Now(), Data: data,
	}); err != nil {
		d.Fatal(err)
	}
}

func (d *deployment) newUser() uuid.UUID {
	id := uuid.New()
	d.tell(id, 1, events.UserRegistered, events.Registration{Sealed: []byte("sealed"), JoinedAt: time.Now()})
	return id
}

func (d *deployment) post(url, contentType string, as uuid.UUID, body string) (status int, answer string) {
	d.Helper()
	bearer, err := d.signer.Sign(token.Claims{
		Subject: as, Session: uuid.New(), IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour),
	})
	if err != nil {
		d.Fatal(err)
	}
	r, err := http.NewRequestWithContext(d.ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		d.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Authorization", "Bearer "+bearer)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		d.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		d.Fatal(err)
	}
	return res.StatusCode, string(data)
}

// types counts the types of the events of an actor.
func (d *deployment) types(actor uuid.UUID) map[string]int {
	d.Helper()
	store := mongolog.Open(d.logs, events.ActivityLog, events.ActivityPartitions)
	count := make(map[string]int)
	for e, err := range log.Events(d.ctx, store, events.PartitionOf(actor, events.ActivityPartitions), 0) {
		if err != nil {
			d.Fatal(err)
		}
		if e.Stream == actor {
			count[e.Type]++
		}
	}
	return count
}

func TestTheServiceOnRealServicesAcrossARestart(t *testing.T) {
	d := newDeployment(t)
	base, stop := d.start()
	ann, bob := d.newUser(), d.newUser()
	single := fmt.Sprintf(`{"type":"like","target":%q,"id":%q}`, bob, uuid.New())
	status, first := d.post(base+"/v1/activities", "application/json", ann, single)
	if status != http.StatusCreated {
		t.Fatalf("%d: %s", status, first)
	}
	const n = 500
	lines := strings.Repeat(fmt.Sprintf("{\"type\":\"visit\",\"target\":%q}\n", bob), n)
	if status, answer := d.post(base+"/v1/activities/batch", "application/x-ndjson", ann, lines); status != 200 || strings.Count(answer, `"status":201`) != n {
		t.Fatalf("%d: %.300s", status, answer)
	}
	stop()

	// What happens while it is away is caught up with.
	d.tell(ann, 2, events.UserMarkedFraudulent, events.Standing{Flag: "f", Rule: "r"})
	base, stop = d.start()
	if status, again := d.post(base+"/v1/activities", "application/json", ann, single); status != http.StatusOK || again != first {
		t.Errorf("the same id again: %d %s, first %s", status, again, first)
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for d.types(ann)[events.ActorHidden] == 0 {
		select {
		case <-look.C:
		case <-d.ctx.Done():
			t.Fatal("the actor was not hidden")
		}
	}
	stop()
	got := d.types(ann)
	if got[events.ProfileLiked] != 1 || got[events.ProfileVisited] != n || got[events.ActorHidden] != 1 {
		t.Errorf("in the log: %v", got)
	}
}
