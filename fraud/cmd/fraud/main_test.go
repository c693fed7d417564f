package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/events/servertest"
	"github.com/meet5/backend/fraud"
	"github.com/meet5/backend/service/node"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/vault/mongovault"
)

// waitLimit ends a test whose condition never comes true.
const waitLimit = 60 * time.Second

// deployment is databases and exchanges of a prefix of its own.
type deployment struct {
	*testing.T
	ctx      context.Context
	flags    flags
	activity *log.Log
	logs     *mongo.Database
	signer   *token.Signer
	// moderator is who asks.
	moderator uuid.UUID
}

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	t.Cleanup(cancel)
	d := &deployment{T: t, ctx: ctx, moderator: uuid.New(), flags: flags{Flags: node.Flags{
		Listen: "127.0.0.1:0", Mongo: servertest.Mongo(t), AMQP: servertest.AMQP(t), Prefix: "test-" + uuid.NewString()[:8],
	}}}
	client := servertest.Client(t)
	logs := servertest.Dropped(t, client.Database(d.flags.Prefix+"_log"))
	side := servertest.Dropped(t, client.Database(d.flags.Prefix+"_fraud"))
	users := d.flags.Prefix + "." + events.UserLog
	servertest.Undeclared(t, []string{d.flags.Prefix + "." + events.FraudLog, d.flags.Prefix + "." + events.ActivityLog, users}, []string{users + ".0.fraud-erasure"})
	for name, partitions := range map[string]int{events.FraudLog: events.FraudPartitions, events.ActivityLog: events.ActivityPartitions, events.UserLog: events.UserPartitions} {
		if err := mongolog.Create(ctx, logs, name, partitions); err != nil {
			t.Fatal(err)
		}
	}
	if err := mongovault.Create(ctx, side); err != nil { // with the ledger
		t.Fatal(err)
	}
	d.logs = logs
	d.activity = log.New(mongolog.Open(logs, events.ActivityLog, events.ActivityPartitions), log.Options{})
	t.Cleanup(d.activity.Close)
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
	d.flags.UserURL = []string{server.URL + "/", "http://another.example"}
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

// spree makes an account visit and like so many others in its first minutes.
func (d *deployment) spree(actor uuid.UUID, targets int) {
	d.Helper()
	joined := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var evs []events.Event
	for i := range 2 * targets {
		e := events.Event{
			ID: uuid.New(), Type: events.ProfileVisited, Stream: actor, OccurredAt: joined.Add(time.Duration(i) * time.Second),
			Data: events.Activity{Target: uuid.UUID{7, byte(i % targets)}, JoinedAt: joined, Trusted: true}.AppendJSON(nil),
		}
		if i >= targets {
			e.Type = events.ProfileLiked
		}
		evs = append(evs, e)
	}
	if _, err := d.activity.Append(d.ctx, evs...); err != nil {
		d.Fatal(err)
	}
}

type flagged struct {
	ID    uuid.UUID
	User  uuid.UUID
	State string
	Count int `json:"evidence_count"`
}

// ask asks again while the answer is 503, as any client would of a busy service.
func (d *deployment) ask(method, url, body string, into any) (status int) {
	d.Helper()
	for {
		if status = d.askOnce(method, url, body, into); status != http.StatusServiceUnavailable {
			return status
		}
	}
}

func (d *deployment) askOnce(method, url, body string, into any) (status int) {
	d.Helper()
	bearer, err := d.signer.Sign(token.Claims{
		Subject: d.moderator, Session: uuid.New(), Roles: []string{token.RoleModerator},
		IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour),
	})
	if err != nil {
		d.Fatal(err)
	}
	r, err := http.NewRequestWithContext(d.ctx, method, url, strings.NewReader(body))
	if err != nil {
		d.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+bearer)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		d.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		d.Fatal(err)
	}
	if res.StatusCode < 300 {
		if err := json.Unmarshal(data, into); err != nil {
			d.Fatalf("%s: %v", data, err)
		}
	}
	return res.StatusCode
}

// waitForFlag waits until an actor is flagged.
func (d *deployment) waitForFlag(base string, actor uuid.UUID) flagged {
	d.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		var page struct{ Items []flagged }
		if d.ask("GET", base+"/v1/moderation/flags?user="+actor.String(), "", &page); len(page.Items) > 0 {
			return page.Items[0]
		}
		select {
		case <-look.C:
		case <-d.ctx.Done():
			d.Fatal("the actor was not flagged")
		}
	}
}

func TestTheServiceOnRealServicesAcrossARestart(t *testing.T) {
	d := newDeployment(t)
	first, second := uuid.New(), uuid.New()
	d.spree(first, 100)
	d.spree(uuid.New(), 99)
	base, stop := d.start()
	before := d.waitForFlag(base, first)
	if before.State != "open" || before.Count != 200 {
		t.Errorf("%+v", before)
	}
	var decided flagged
	if status := d.ask("POST", base+"/v1/moderation/flags/"+before.ID.String()+"/decision", `{"decision":"confirm"}`, &decided); status != 200 || decided.State != "confirmed" {
		t.Errorf("%d %+v", status, decided)
	}
	stop()

	d.spree(second, 100) // while it is away
	base, stop = d.start()
	if after := d.waitForFlag(base, first); after.ID != before.ID || after.State != "confirmed" {
		t.Errorf("%+v, before the restart %+v", after, before)
	}
	d.waitForFlag(base, second)
	var page struct{ Items []flagged }
	d.ask("GET", base+"/v1/moderation/flags", "", &page)
	if len(page.Items) != 2 {
		t.Errorf("%d flags, want 2", len(page.Items))
	}
	stop()
}

// raise writes open flags straight into the fraud log.
func (d *deployment) raise(n int) (ids []uuid.UUID) {
	d.Helper()
	l := log.New(mongolog.Open(d.logs, events.FraudLog, events.FraudPartitions), log.Options{})
	defer l.Close()
	var evs []events.Event
	for range n {
		id := uuid.New()
		data, err := json.Marshal(events.Flag{User: uuid.New(), Rule: "some-rule", RuleVersion: "v", Score: 40, Evidence: []events.Evidence{}})
		if err != nil {
			d.Fatal(err)
		}
		ids = append(ids, id)
		evs = append(evs, events.Event{ID: uuid.New(), Type: events.FlagRaised, Stream: id, Version: 1, OccurredAt: time.Now(), Data: data})
	}
	if _, err := l.Append(d.ctx, evs...); err != nil {
		d.Fatal(err)
	}
	return ids
}

type operation struct {
	ID      uuid.UUID
	Changed int
	Items   []uuid.UUID
	Refused []struct{ ID uuid.UUID }
	Undone  *struct{ Changed int }
}

// A bulk operation of the largest size that is allowed meets, at another instance,
// moderators who decide one by one: every flag is decided on once. Then it is undone.
func TestTheLargestBulkOperationBesideSingleDecisions(t *testing.T) {
	d := newDeployment(t)
	ids := d.raise(fraud.MaxBulk)
	first, stopFirst := d.start()
	second, stopSecond := d.start()
	defer stopFirst()
	defer stopSecond()
	single := 0
	var o operation
	note := strings.Repeat("<", fraud.MaxBulkNote)
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, id := range ids[:20] {
			var f flagged
			d.ask("POST", second+"/v1/moderation/flags/"+id.String()+"/decision", `{"decision":"dismiss"}`, &f)
		}
	})
	wg.Go(func() {
		body := `{"id":"` + uuid.NewString() + `","filter":{"rule":"some-rule"},"decision":"confirm","note":"` + note + `"}`
		if status := d.ask("POST", first+"/v1/moderation/bulk", body, &o); status != http.StatusOK {
			t.Errorf("status %d", status)
		}
	})
	wg.Wait()
	for _, id := range ids[:20] {
		var f flagged
		d.ask("GET", second+"/v1/moderation/flags/"+id.String(), "", &f)
		if f.State == "dismissed" {
			single++
		}
	}
	if o.Changed+single != len(ids) || o.Changed+len(o.Refused) != len(ids) || o.Changed < len(ids)-20 {
		t.Errorf("%d were decided on in bulk, %d refused, and %d one by one, of %d", o.Changed, len(o.Refused), single, len(ids))
	}
	var undone operation
	if status := d.ask("POST", second+"/v1/moderation/bulk/"+o.ID.String()+"/undo", `{}`, &undone); status != http.StatusOK || undone.Undone.Changed != o.Changed {
		t.Errorf("%d: %+v were undone, want %d", status, undone.Undone, o.Changed)
	}
	if status := d.ask("POST", first+"/v1/moderation/bulk/"+o.ID.String()+"/undo", `{}`, &undone); status != http.StatusConflict {
		t.Errorf("undone twice: %d", status)
	}
}

// What one instance wrote about a user is gone from both as soon as either has heard of
// the erasure, and written no more.
func TestAnErasureReachesEveryInstance(t *testing.T) {
	d := newDeployment(t)
	ids := d.raise(2)
	first, stopFirst := d.start()
	second, stopSecond := d.start()
	defer stopFirst()
	defer stopSecond()
	type shown struct {
		User  uuid.UUID
		Notes []struct {
			Text   string
			Erased bool
		}
	}
	of := func(id uuid.UUID) string { return "/v1/moderation/flags/" + id.String() }
	for _, id := range ids {
		if status := d.ask("POST", first+of(id)+"/notes", `{"text":"seen in Lisbon"}`, &shown{}); status != http.StatusOK {
			t.Fatalf("a note: %d", status)
		}
	}
	var hers shown
	if d.ask("GET", second+of(ids[0]), "", &hers); len(hers.Notes) != 1 || hers.Notes[0].Text != "seen in Lisbon" {
		t.Fatalf("the other instance shows %+v", hers)
	}
	users := log.New(mongolog.Open(d.logs, events.UserLog, events.UserPartitions), log.Options{})
	defer users.Close()
	data, err := json.Marshal(events.Erasure{By: hers.User.String()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := users.Append(d.ctx, events.Event{ID: uuid.New(), Type: events.UserErased, Stream: hers.User, Version: 1, OccurredAt: time.Now(), Data: data}); err != nil {
		t.Fatal(err)
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for _, base := range []string{first, second} {
		if status := d.ask("POST", base+of(ids[0])+"/notes", `{"text":"seen again"}`, &shown{}); status != http.StatusConflict {
			t.Errorf("a note about the erased: %d", status)
		}
		for f := (shown{}); len(f.Notes) != 1 || !f.Notes[0].Erased || f.Notes[0].Text != ""; d.ask("GET", base+of(ids[0]), "", &f) {
			select {
			case <-look.C:
			case <-d.ctx.Done():
				t.Fatalf("still there: %+v", f)
			}
		}
		var other shown
		if d.ask("GET", base+of(ids[1]), "", &other); len(other.Notes) != 1 || other.Notes[0].Text != "seen in Lisbon" {
			t.Errorf("the other user's flag shows %+v", other)
		}
	}
}
