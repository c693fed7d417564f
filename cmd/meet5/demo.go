package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/oapi-codegen/runtime/types"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/cmd/ingest"
	"github.com/meet5/backend/cmd/simulation"
	"github.com/meet5/backend/gateway/client"
)

// What the demo signs in with. It is no secret: a demo is not for the open net.
const (
	demoPassword   = "a-password-for-the-demo"
	demoAdminEmail = "admin@demo.example"
)

const (
	demoMembers = 500
	demoDays    = 7
	// demoPace is the pause between two acts of the live traffic.
	demoPace = 300 * time.Millisecond
	// demoPatience is how long it waits for an answer.
	demoPatience = 30 * time.Second
	// demoCheatAfter and demoCheatEvery are when somebody new joins who likes too
	// fast; demoCheats is how often.
	demoCheatAfter = 15 * time.Second
	demoCheatEvery = 2 * time.Minute
	demoCheats     = 20
)

// demoDefaults keeps the demo's members apart from real ones.
func (c *up) demoDefaults() {
	if c.Data == defaultData {
		c.Data = defaultData + "/demo"
	}
	if c.AdminEmail == "" {
		c.AdminEmail, c.AdminPassword = demoAdminEmail, demoPassword
	}
}

// demo fills a backend and keeps it busy, through its own front door wherever a
// client could.
type demo struct {
	*backend.Backend
	url         string
	con         *console
	admin, pass string
	client      *client.ClientWithResponses
	random      *rand.Rand
	tokens      map[string]string // by handle
}

func newDemo(b *backend.Backend, url, adminEmail, adminPassword string, con *console) *demo {
	return &demo{
		Backend: b, url: url, con: con, admin: adminEmail, pass: adminPassword,
		random: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 5)), //nolint:gosec // made-up traffic
		tokens: make(map[string]string),
	}
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.client, err = client.NewClientWithResponses(d.url, client.WithHTTPClient(&http.Client{Timeout: demoPatience})); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	// The seed is fixed, so that a second start knows the members of the first.
	world, err := simulation.New(simulation.Config{Seed: 5, Members: demoMembers, Days: demoDays, CheatsPer: 1, Until: now})
	if err != nil {
		return err
	}
	anna, err := d.people(ctx)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	head := uint64(0)
	for p := range d.Logs.Activity.Partitions() {
		n, err := d.Logs.Activity.Head(ctx, p)
		if err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		head += n
	}
	if head == 0 {
		if err := d.history(ctx, world, anna, now); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		d.con.say("demo: %d members and %d activities of the last %d days, four kinds of cheats among them", len(world.Members), len(world.Acts), demoDays)
	}
	d.con.say(`demo: sign in (POST /v1/sessions) with the password %s as
  anna     a member: GET /v1/me/visitors, /v1/me/likes/received, /v1/me/matches, /v1/me/stats
  mod      a moderator: GET /v1/moderation/flags, then /v1/moderation/flags/{id}: which events raised it
  analyst  an analyst: GET /v1/logs, /v1/logs/activity/events
Members keep visiting and liking; now and then somebody joins who likes too fast.
Next: the README's tour, or %s/docs. Ctrl-C ends it; the data stays in the folder.`, demoPassword, d.url)
	return d.traffic(ctx, world, anna)
}

// people makes those who sign in, and returns anna's ID.
func (d *demo) people(ctx context.Context) (anna uuid.UUID, err error) {
	for _, p := range []struct {
		handle, name string
		roles        []client.Role
	}{
		{"anna", "Anna", nil},
		{"mod", "Mo (moderator)", []client.Role{client.RoleModerator}},
		{"analyst", "Alex (analyst)", []client.Role{client.RoleAnalyst}},
		{"traffic", "Traffic of the demo", []client.Role{client.RoleService}},
	} {
		city := "Frankfurt"
		born, err := d.client.RegisterWithResponse(ctx, client.Registration{
			Handle: p.handle, Email: types.Email(p.handle + "@demo.example"), Password: demoPassword,
			DisplayName: p.name, BirthDate: types.Date{Time: time.Date(1990, 5, 5, 0, 0, 0, 0, time.UTC)}, City: &city,
		})
		if err != nil {
			return uuid.Nil, err
		}
		if err := refused(born.HTTPResponse, born.Body); err != nil && born.StatusCode() != http.StatusConflict { // there since an earlier start
			return uuid.Nil, err
		}
		if err := d.signIn(ctx, p.handle, demoPassword); err != nil {
			return uuid.Nil, err
		}
		me, err := d.client.GetMeWithResponse(ctx, d.as(p.handle))
		if err == nil {
			err = refused(me.HTTPResponse, me.Body)
		}
		if err != nil {
			return uuid.Nil, err
		}
		if p.handle == "anna" {
			anna = me.JSON200.Id
		}
		if len(p.roles) > 0 && len(me.JSON200.Roles) == 0 {
			if err := d.signIn(ctx, d.admin, d.pass); err != nil {
				return uuid.Nil, err
			}
			given, err := d.client.SetRolesWithResponse(ctx, me.JSON200.Id, client.Roles{Roles: p.roles}, d.as(d.admin))
			if err == nil {
				err = refused(given.HTTPResponse, given.Body)
			}
			if err != nil {
				return uuid.Nil, err
			}
			if err := d.signIn(ctx, p.handle, demoPassword); err != nil { // for a token with the role
				return uuid.Nil, err
			}
		}
	}
	return anna, nil
}

// history writes the past, some of it about anna.
func (d *demo) history(ctx context.Context, w *simulation.World, anna uuid.UUID, now time.Time) error {
	if _, err := ingest.World(ctx, d.User, d.Logs.Activity, d.Logs.User, w, func() {}); err != nil {
		return err
	}
	var lines []post
	for i, m := range w.Members[len(w.Members)-30:] {
		at := now.Add(time.Duration(i-30) * time.Minute)
		lines = append(lines, post{Type: activity.Visit, Actor: m.ID, Target: anna, OccurredAt: at})
		if i%3 == 0 {
			lines = append(lines, post{Type: activity.Like, Actor: m.ID, Target: anna, OccurredAt: at.Add(time.Second)})
		}
		if i%6 == 0 {
			lines = append(lines, post{Type: activity.Like, Actor: anna, Target: m.ID, OccurredAt: at.Add(20 * time.Second)})
		}
	}
	return d.batch(ctx, lines)
}

// post is one activity on behalf of somebody.
type post struct {
	Type       activity.Kind `json:"type"`
	Actor      uuid.UUID     `json:"actor"`
	Target     uuid.UUID     `json:"target"`
	OccurredAt time.Time     `json:"occurred_at"`
}

// traffic goes on until ctx ends.
func (d *demo) traffic(ctx context.Context, w *simulation.World, anna uuid.UUID) error {
	pace := time.NewTicker(demoPace)
	defer pace.Stop()
	cheat := time.NewTimer(demoCheatAfter)
	defer cheat.Stop()
	for cheats := 0; ; {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-cheat.C:
			err = d.cheat(ctx, w, cheats)
			if cheats++; cheats < demoCheats {
				cheat.Reset(demoCheatEvery)
			}
		case now := <-pace.C:
			actor, target := w.Members[d.random.IntN(len(w.Members))].ID, w.Members[d.random.IntN(len(w.Members))].ID
			if d.random.IntN(5) == 0 {
				target = anna
			}
			kind := activity.Visit
			if d.random.IntN(6) == 0 {
				kind = activity.Like
			}
			if actor != target {
				err = d.batch(ctx, []post{{Type: kind, Actor: actor, Target: target, OccurredAt: now.UTC()}})
			}
		}
		if err != nil && ctx.Err() == nil {
			d.con.logger.Warn("demo: traffic", "error", err)
		}
	}
}

// cheat joins and visits and likes more people in minutes than anybody can.
func (d *demo) cheat(ctx context.Context, w *simulation.World, n int) error {
	joined := time.Now().UTC().Add(-8 * time.Minute)
	id := uuid.New()
	if err := ingest.Accounts(ctx, d.User, []ingest.Account{{ID: id, Handle: fmt.Sprintf("quick.%s", id.String()[:8]), Name: fmt.Sprintf("Quick %d", n+1), JoinedAt: joined}}); err != nil {
		return err
	}
	var lines []post
	for i, target := range w.Members[:110] {
		at := joined.Add(time.Duration(4*i) * time.Second)
		lines = append(lines, post{Type: activity.Visit, Actor: id, Target: target.ID, OccurredAt: at},
			post{Type: activity.Like, Actor: id, Target: target.ID, OccurredAt: at.Add(time.Second)})
	}
	return d.batch(ctx, lines)
}

// batch posts activities as the traffic account, and signs in anew when its
// token has ended.
func (d *demo) batch(ctx context.Context, posts []post) error {
	var body bytes.Buffer
	for _, p := range posts {
		line, err := json.Marshal(p)
		if err != nil {
			return err
		}
		body.Write(append(line, '\n'))
	}
	for attempt := 0; ; attempt++ {
		answer, err := d.client.PostBatchWithBodyWithResponse(ctx, "application/x-ndjson", bytes.NewReader(body.Bytes()), d.as("traffic"))
		if err != nil {
			return err
		}
		if answer.StatusCode() == http.StatusUnauthorized && attempt == 0 {
			if err := d.signIn(ctx, "traffic", demoPassword); err != nil {
				return err
			}
			continue
		}
		if err := refused(answer.HTTPResponse, answer.Body); err != nil {
			return err
		}
		for line := range bytes.Lines(answer.Body) {
			var a client.BatchLine
			if err := json.Unmarshal(line, &a); err != nil || a.Status >= http.StatusBadRequest {
				return errors.Join(err, fmt.Errorf("an activity was refused: %s", line))
			}
		}
		return nil
	}
}

func (d *demo) signIn(ctx context.Context, login, password string) error {
	s, err := d.client.SignInWithResponse(ctx, client.Credentials{Login: login, Password: password})
	if err == nil {
		err = refused(s.HTTPResponse, s.Body)
	}
	if err != nil {
		return err
	}
	d.tokens[login] = s.JSON201.AccessToken
	return nil
}

// as signs a request as one who has signed in.
func (d *demo) as(login string) client.RequestEditorFn { return client.Bearer(d.tokens[login]) }

// refused is the error of an answer that says no; nil for any other.
func refused(res *http.Response, body []byte) error {
	if res.StatusCode < http.StatusBadRequest {
		return nil
	}
	return fmt.Errorf("%s %s: %s: %s", res.Request.Method, res.Request.URL.Path, res.Status, body)
}
