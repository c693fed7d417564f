package e2e_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/cmd/verify"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/servertest"
)

// stored is everything that a deployment keeps, by where it is.
type stored map[string][]byte

// files reads the files of a folder.
func files(t *testing.T, folder string) stored {
	t.Helper()
	all := make(stored)
	paths, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if all[filepath.Base(path)], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// databases reads every document of every collection, as the bytes that it is.
func databases(t *testing.T, prefix string) stored {
	t.Helper()
	all := make(stored)
	client := servertest.Client(t)
	for _, concern := range []string{"log", "user", "projections", "fraud", "activity"} {
		db := client.Database(prefix + "_" + concern)
		names, err := db.ListCollectionNames(t.Context(), bson.D{})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			cursor, err := db.Collection(name).Find(t.Context(), bson.D{})
			if err != nil {
				t.Fatal(err)
			}
			place := concern + "." + name
			for all[place] = nil; cursor.Next(t.Context()); {
				all[place] = append(all[place], cursor.Current...)
			}
			if err := cursor.Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return all
}

// tap has the broker put a copy of every message that is published aside.
type tap struct {
	t       *testing.T
	channel *amqp.Channel
	queue   string
}

func newTap(t *testing.T, where backend.Where) *tap {
	t.Helper()
	conn, err := amqp.Dial(where.AMQP)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	channel, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	q, err := channel.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"user", "activity", "fraud"} {
		exchange := where.Prefix + "." + name
		if err := channel.ExchangeDeclare(exchange, amqp.ExchangeTopic, true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
		if err := channel.QueueBind(q.Name, "#", exchange, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	return &tap{t, channel, q.Name}
}

// drained are the bodies and headers of all messages so far.
func (p *tap) drained() (all []byte) {
	p.t.Helper()
	for {
		m, ok, err := p.channel.Get(p.queue, true)
		if err != nil {
			p.t.Fatal(err)
		}
		if !ok {
			return all
		}
		all = append(append(all, m.Body...), fmt.Sprint(m.Headers, m.RoutingKey)...)
	}
}

// review is what moderators, and she herself, wrote about anna.
type review struct {
	flag, bulk string
	texts      []string
}

// reviewed has anna and bert flagged, and written about.
func reviewed(t *testing.T, h *house, anna, bert *client) review {
	t.Helper()
	mod := h.with("mod", "moderator")
	const path = "/v1/moderation/rules/some-likes"
	mod.send("PUT", path+"?why=bots", "application/yaml", strings.NewReader(someLikes)).is(http.StatusCreated)
	mod.post(path+"/mode", object{"mode": "live", "why": "at once", "force": true}).is(http.StatusOK)
	eventually(t, "the rule runs", func() (any, bool) {
		var rule object
		mod.get(path).is(http.StatusOK).into(&rule)
		return rule, rule["runs"] == true && rule["warming"] == false
	})
	for _, liked := range h.crowd(3, time.Now().Add(-time.Hour)) {
		anna.act("like", liked).is(http.StatusCreated)
		bert.act("like", liked).is(http.StatusCreated)
	}
	flagOf := func(c *client) (id string) {
		t.Helper()
		eventually(t, "the flag", func() (any, bool) {
			l := mod.list("/v1/moderation/flags?rule=some-likes&user=" + c.id.String())
			if len(l.Items) == 1 {
				id, _ = l.Items[0]["id"].(string)
			}
			return l, id != ""
		})
		return id
	}
	hers, his := flagOf(anna), flagOf(bert)
	r := review{flag: hers, texts: []string{"Annie and Bertie", "Annie after all", "Annie from Lisbon", "Annie it was", "I am not that Annie", "Annie speaks the truth"}}
	var o struct{ ID string }
	mod.post("/v1/moderation/bulk", object{"ids": []string{hers, his}, "decision": "escalate", "note": r.texts[0]}).is(http.StatusOK).into(&o)
	mod.post("/v1/moderation/bulk/"+o.ID+"/undo", object{"note": r.texts[1]}).is(http.StatusOK)
	mod.post("/v1/moderation/flags/"+hers+"/notes", object{"text": r.texts[2]}).is(http.StatusOK)
	mod.post("/v1/moderation/flags/"+hers+"/decision", object{"decision": "confirm", "note": r.texts[3]}).is(http.StatusOK)
	anna.post("/v1/me/appeals", object{"flag": hers, "text": r.texts[4]}).is(http.StatusCreated)
	mod.post("/v1/moderation/flags/"+hers+"/decision", object{"decision": "overturn", "note": r.texts[5]}).is(http.StatusOK)
	r.bulk = o.ID
	return r
}

// shown waits until the pages about her flag show these of the texts and no other.
func (r review) shown(t *testing.T, when string, mod *client, want []string) {
	t.Helper()
	eventually(t, "what is shown "+when, func() (any, bool) {
		flag := string(mod.get("/v1/moderation/flags/" + r.flag).is(http.StatusOK).body)
		operation := string(mod.get("/v1/moderation/bulk/" + r.bulk).is(http.StatusOK).body)
		operations := string(mod.get("/v1/moderation/bulk").is(http.StatusOK).body)
		for i, text := range r.texts {
			is := slices.Contains(want, text)
			if strings.Contains(flag, text) != is || i < 2 && (strings.Contains(operation, text) != is || strings.Contains(operations, text) != is) {
				return flag + operation + operations, false
			}
		}
		return nil, strings.Contains(flag, `"erased":true`) == (len(want) == 0)
	})
}

func TestNothingThatIsKeptSaysWhoAnErasedPersonWas(t *testing.T) {
	bothWays(t, func(t *testing.T, where backend.Where) {
		var messages *tap
		if where.Real() {
			messages = newTap(t, where)
		}
		h := open(t, where)
		bert := h.register("bert")

		person := map[string]string{
			"handle": "annabel-lee", "email": "lee.annabel@kingdom.example", "display_name": "Annabel of Old",
			"birth_date": "1991-02-03", "city": "Kingdom by the Sea", "about": "Many and many a year ago",
		}
		body := object{"password": password}
		for k, v := range person {
			body[k] = v
		}
		anna := &client{house: h}
		var u struct{ ID uuid.UUID }
		anna.post("/v1/users", body).is(http.StatusCreated).into(&u)
		anna.id = u.ID
		const agent = "Telegraph of the Angels/7"
		var session struct {
			AccessToken string `json:"access_token"`
		}
		anna.send(http.MethodPost, "/v1/sessions", "application/json",
			strings.NewReader(fmt.Sprintf(`{"login":%q,"password":%q}`, person["email"], password)), "User-Agent", agent).
			is(http.StatusCreated).into(&session)
		anna.token = session.AccessToken
		secrets := []string{agent, "year ago", "Winds of the Night"}
		for _, v := range person {
			secrets = append(secrets, v)
		}
		anna.send(http.MethodPatch, "/v1/me", "application/merge-patch+json", strings.NewReader(`{"city":"Winds of the Night"}`), "If-Match", "*").is(http.StatusOK)
		anna.act("visit", bert.id).is(http.StatusCreated)
		anna.act("like", bert.id).is(http.StatusCreated)
		bert.act("like", anna.id).is(http.StatusCreated)
		eventually(t, "bert's matches", func() (any, bool) {
			l := bert.list("/v1/me/matches")
			return l, names(l) == person["handle"]
		})
		export := string(anna.get("/v1/me/export").is(http.StatusOK).body)
		for _, secret := range secrets {
			if !strings.Contains(export, secret) {
				t.Errorf("the export does not hold %q", secret)
			}
		}
		review := reviewed(t, h, anna, bert)
		secrets = append(secrets, review.texts...)
		kept := func() stored {
			if where.Real() {
				return databases(t, where.Prefix)
			}
			return files(t, where.Data)
		}
		holds := func(all stored, what string) (where []string) {
			for place, b := range all {
				if bytes.Contains(bytes.ToLower(b), bytes.ToLower([]byte(what))) {
					where = append(where, place)
				}
			}
			return where
		}
		// What is looked for can be found: what her session says is in the clear, and
		// only there.
		for _, secret := range secrets {
			places := holds(kept(), secret)
			if secret == agent && len(places) == 0 {
				t.Error("her session is nowhere: this test looks in the wrong places")
			}
			if secret != agent && len(places) > 0 {
				t.Errorf("%v hold %q while she is there", places, secret)
			}
		}

		keys, err := h.FraudVault.Keys(t.Context(), anna.id)
		if err != nil || len(keys) != 1 {
			t.Fatalf("her keys in the fraud service: %v, %v", keys, err)
		}
		key := keys[anna.id]
		holdsKey := func() (where []string) {
			for place, b := range kept() {
				if bytes.Contains(b, key[:]) {
					where = append(where, place+" holds a key of hers")
				}
			}
			return where
		}
		if len(holdsKey()) == 0 {
			t.Error("the key of what was written about her is nowhere: this test cannot see it go")
		}
		review.shown(t, "before the erasure", h.as("mod"), review.texts)

		anna.send(http.MethodDelete, "/v1/me", "", nil).is(http.StatusNoContent)
		anna.get("/v1/me").is(http.StatusNotFound)
		anna.post("/v1/me/appeals", object{"flag": review.flag, "text": "I am still here"}).is(http.StatusNotFound)
		h.as("mod").post("/v1/moderation/flags/"+review.flag+"/notes", object{"text": "she is still here"}).is(http.StatusConflict)
		review.shown(t, "after the erasure", h.as("mod"), nil)
		eventually(t, "bert's matches without her name", func() (any, bool) {
			l := bert.list("/v1/me/matches")
			return l, len(l.Items) == 1 && names(l) == "<nil>"
		})
		h.stop()
		h = open(t, where) // a start tidies the vault
		review.shown(t, "after a restart", h.as("mod"), nil)
		eventually(t, "what is left of her", func() (any, bool) {
			all, left := kept(), holdsKey()
			for _, secret := range secrets {
				for _, place := range holds(all, secret) {
					left = append(left, place+" holds "+secret)
				}
			}
			return left, len(left) == 0
		})
		if len(holds(kept(), "user.erased")) == 0 {
			t.Error("the event of her erasure is nowhere: this test cannot read the log")
		}
		if messages != nil {
			all := stored{"the broker": messages.drained()}
			if len(holds(all, "user.erased")) == 0 {
				t.Error("the event of her erasure was not published: this test cannot read messages")
			}
			for _, secret := range secrets {
				if len(holds(all, secret)) > 0 {
					t.Errorf("a message held %q", secret)
				}
			}
		}
		for _, l := range []log.Store{h.Stores.User, h.Stores.Activity, h.Stores.Fraud} {
			if _, err := verify.Log(t.Context(), l, nil, func(f verify.Finding) { t.Error(f) }, func(int) {}); err != nil {
				t.Error(err)
			}
		}
	})
}
