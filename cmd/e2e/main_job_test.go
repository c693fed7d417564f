package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/cmd/ingest"
)

func TestMembersSeeWhoVisitedAndLikedThem(t *testing.T) {
	bothWays(t, func(t *testing.T, where backend.Where) {
		h := open(t, where)
		anna, bert, carl := h.register("anna"), h.register("bert"), h.register("carl")
		for range 3 {
			bert.act("visit", anna.id).is(http.StatusCreated)
		}
		carl.act("visit", anna.id).is(http.StatusCreated)
		bert.act("like", anna.id).is(http.StatusCreated)
		carl.act("like", anna.id).is(http.StatusCreated)
		anna.act("like", bert.id).is(http.StatusCreated)
		carl.act("unlike", anna.id).is(http.StatusCreated)

		eventually(t, "anna's visitors", func() (any, bool) {
			l := anna.list("/v1/me/visitors")
			return l, len(l.Items) == 2 && l.Items[1]["count"] == 3.0 && names(l) == "carl bert"
		})
		for path, want := range map[string]string{
			"/v1/me/likes/received": "bert", "/v1/me/likes/given": "bert", "/v1/me/matches": "bert", "/v1/me/visits": "",
		} {
			eventually(t, path, func() (any, bool) {
				l := anna.list(path)
				return l, names(l) == want
			})
		}
		var stats object
		eventually(t, "anna's numbers", func() (any, bool) {
			anna.get("/v1/me/stats").is(http.StatusOK).into(&stats)
			return stats, stats["visits_received"] == 4.0 && stats["unique_visitors"] == 2.0 &&
				stats["likes_received"] == 1.0 && stats["likes_given"] == 1.0 && stats["matches"] == 1.0
		})

		var home struct {
			Account           struct{ Handle string }
			Stats             object
			Visitors, Matches list
			LikesReceived     list `json:"likes_received"`
			Missing           []string
		}
		anna.get("/v1/me/home").is(http.StatusOK).into(&home)
		if home.Account.Handle != "anna" || home.Stats["matches"] != 1.0 || names(home.Visitors) != "carl bert" ||
			names(home.LikesReceived) != "bert" || names(home.Matches) != "bert" || len(home.Missing) > 0 {
			t.Errorf("home: %+v", home)
		}

		page := anna.list("/v1/me/visitors?limit=1")
		if names(page) != "carl" || page.Next == "" {
			t.Fatalf("first page %v", page)
		}
		if page = anna.list("/v1/me/visitors?limit=1&cursor=" + page.Next); names(page) != "bert" || page.Next != "" {
			t.Fatalf("second page %v", page)
		}

		h.stop()
		h = open(t, where)
		again := h.as("anna")
		eventually(t, "anna's visitors after a restart", func() (any, bool) {
			l := again.list("/v1/me/visitors")
			return l, names(l) == "carl bert"
		})
	})
}

func TestTheSameIDIsAnsweredNotRepeated(t *testing.T) {
	bothWays(t, func(t *testing.T, where backend.Where) {
		h := open(t, where)
		anna, bert := h.register("anna"), h.register("bert")
		body := object{"type": "visit", "target": anna.id, "id": uuid.NewString()}
		var first, second object
		bert.post("/v1/activities", body).is(http.StatusCreated).into(&first)
		bert.post("/v1/activities", body).is(http.StatusOK).into(&second)
		if fmt.Sprint(first) != fmt.Sprint(second) {
			t.Fatalf("first %v, then %v", first, second)
		}
		line := bert.batch([]object{body})[0]
		if line["status"] != 200.0 || line["sequence"] != first["sequence"] || line["recorded_at"] != first["recorded_at"] {
			t.Fatalf("in a batch %v, first %v", line, first)
		}
	})
}

// crowd imports people to visit, and returns their IDs.
func (h *house) crowd(n int, joined time.Time) []uuid.UUID {
	h.t.Helper()
	var ids []uuid.UUID
	var accounts []ingest.Account
	for range n {
		id := uuid.New()
		ids = append(ids, id)
		accounts = append(accounts, ingest.Account{ID: id, Name: "Somebody", JoinedAt: joined})
	}
	if err := ingest.Accounts(h.t.Context(), h.User, accounts); err != nil {
		h.t.Fatal(err)
	}
	return ids
}

func TestTheMeet5Rule(t *testing.T) {
	bothWays(t, func(t *testing.T, where backend.Where) {
		h := open(t, where)
		now := time.Now().UTC().Truncate(time.Second)
		crowd := h.crowd(101, now.Add(-time.Hour))
		service, mod := h.with("traffic", "service"), h.with("mod", "moderator")
		anna := h.register("anna")

		// storm visits and likes n others, spread over so long from joining on.
		storm := func(n int, over time.Duration, targets []uuid.UUID) uuid.UUID {
			joined := now.Add(-30 * time.Minute)
			actor := h.crowd(1, joined)[0]
			var lines []object
			for i := range n {
				at := joined.Add(over * time.Duration(i+1) / time.Duration(n))
				lines = append(lines,
					object{"type": "visit", "actor": actor, "target": targets[i], "occurred_at": at.Add(-time.Second)},
					object{"type": "like", "actor": actor, "target": targets[i], "occurred_at": at})
			}
			for i, l := range service.batch(lines) {
				if l["status"] != 201.0 {
					t.Fatalf("line %d: %v", i, l)
				}
			}
			return actor
		}
		guilty := storm(100, 10*time.Minute, append([]uuid.UUID{anna.id}, crowd...))
		slow := storm(100, 11*time.Minute, crowd)
		few := storm(99, 9*time.Minute, crowd)

		flags := func(m *client, user uuid.UUID) list {
			return m.list("/v1/moderation/flags?rule=meet5-first-minutes&user=" + user.String())
		}
		eventually(t, "the flag", func() (any, bool) {
			l := flags(mod, guilty)
			return l, len(l.Items) == 1
		})
		for what, user := range map[string]uuid.UUID{"11 minutes": slow, "99 others": few} {
			if l := flags(mod, user); len(l.Items) != 0 {
				t.Errorf("one that took %s was flagged: %v", what, l)
			}
		}
		raised := flags(mod, guilty).Items[0]
		path := "/v1/moderation/flags/" + raised["id"].(string)
		var flag struct {
			State         string
			Observed      float64
			Threshold     float64
			EvidenceCount int `json:"evidence_count"`
			Evidence      []struct {
				EventID uuid.UUID `json:"event_id"`
				Type    string
			}
			History []object
		}
		mod.get(path).is(http.StatusOK).into(&flag)
		kinds := map[string]int{}
		for _, e := range flag.Evidence {
			kinds[e.Type]++
		}
		if len(flag.Evidence) != 200 || flag.EvidenceCount != 200 || kinds["visit"] != 100 || kinds["like"] != 100 || flag.State != "open" || flag.Threshold != 100 {
			t.Fatalf("flag with %d events of evidence %v: %+v", len(flag.Evidence), kinds, flag)
		}

		// The flag is the same after a restart.
		before := mod.get(path).body
		h.stop()
		h = open(t, where)
		mod, anna = h.as("mod"), h.as("anna")
		if after := mod.get(path).is(http.StatusOK).body; string(after) != string(before) {
			t.Fatalf("before the restart %s\nafter it %s", before, after)
		}
		if l := flags(mod, guilty); len(l.Items) != 1 {
			t.Fatalf("after the restart there are %d flags", len(l.Items))
		}

		// Confirmed, what the user did vanishes from others' lists; overturned, it
		// comes back.
		visitors := func(want int) func() (any, bool) {
			return func() (any, bool) {
				l := anna.list("/v1/me/visitors")
				var stats object
				anna.get("/v1/me/stats").is(http.StatusOK).into(&stats)
				return l, len(l.Items) == want && stats["unique_visitors"] == float64(want) && stats["likes_received"] == float64(want)
			}
		}
		eventually(t, "anna's visitors", visitors(1))
		var bulk struct {
			ID      uuid.UUID
			Changed int
		}
		mod.post("/v1/moderation/bulk", object{"filter": object{"state": "open", "user": guilty}, "decision": "confirm"}).is(http.StatusOK).into(&bulk)
		if bulk.Changed != 1 {
			t.Errorf("a bulk operation has changed %d flags, want 1", bulk.Changed)
		}
		eventually(t, "anna's visitors once it is confirmed in bulk", visitors(0))
		mod.post("/v1/moderation/bulk/"+bulk.ID.String()+"/undo", object{}).is(http.StatusOK)
		eventually(t, "anna's visitors once that is undone", visitors(1))
		mod.post(path+"/decision", object{"decision": "confirm", "note": "a script"}).is(http.StatusOK)
		eventually(t, "anna's visitors once it is confirmed", visitors(0))
		var account struct {
			Account struct{ Status string }
			Flags   []object
		}
		mod.get("/v1/moderation/users/" + guilty.String()).is(http.StatusOK).into(&account)
		if account.Account.Status != "fraudulent" || len(account.Flags) == 0 {
			t.Errorf("the case: %+v", account)
		}
		mod.post(path+"/decision", object{"decision": "confirm"}).is(http.StatusConflict)
		mod.post(path+"/decision", object{"decision": "overturn"}).is(http.StatusOK)
		eventually(t, "anna's visitors once it is overturned", visitors(1))
	})
}

func TestDoorsThatStayShut(t *testing.T) {
	h := open(t, backend.Where{Data: t.TempDir()})
	anna, nobody := h.register("anna"), &client{house: h}
	for _, c := range []struct {
		who    *client
		method string
		path   string
		want   int
	}{
		{nobody, http.MethodGet, "/v1/me", 401},
		{nobody, http.MethodPost, "/v1/activities", 401},
		{anna, http.MethodGet, "/v1/moderation/flags", 403},
		{anna, http.MethodGet, "/v1/logs", 403},
		{anna, http.MethodGet, "/v1/logs/activity/events", 403},
		{anna, http.MethodGet, "/v1/moderation/users/" + anna.id.String(), 403},
		{anna, http.MethodPost, "/v1/admin/users/" + anna.id.String() + "/roles", 403},
		{anna, http.MethodGet, "/internal/users/" + anna.id.String(), 404},
		{anna, http.MethodPost, "/internal/users/cards", 404},
		{anna, http.MethodGet, "/v1/nothing", 404},
		{anna, http.MethodPut, "/v1/activities", 405},
	} {
		var body *strings.Reader
		if body = strings.NewReader(""); c.method == http.MethodPost {
			body = strings.NewReader("{}")
		}
		a := c.who.send(c.method, c.path, "application/json", body)
		if a.status != c.want || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %d %s %s, want %d", c.method, c.path, a.status, a.header.Get("Content-Type"), a.body, c.want)
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/.well-known/jwks.json"} {
		nobody.get(path).is(http.StatusOK)
	}
}

func TestBadInputIsNamedAndTheRestStands(t *testing.T) {
	bothWays(t, func(t *testing.T, where backend.Where) {
		h := open(t, where)
		anna, bert := h.register("anna"), h.register("bert")
		good := object{"type": "visit", "target": bert.id}
		with := func(field string, value any) object {
			o := object{}
			for k, v := range good {
				o[k] = v
			}
			o[field] = value
			return o
		}
		cases := []struct {
			body   object
			status int
			field  string
		}{
			{with("type", "poke"), 422, "type"},
			{with("target", "bert"), 422, "target"},
			{with("target", anna.id), 422, "target"},
			{with("target", uuid.New()), 404, ""},
			{with("occurred_at", time.Now().Add(time.Hour)), 422, "occurred_at"},
			{with("occurred_at", time.Now().Add(-73*time.Hour)), 422, "occurred_at"},
			{with("id", "7"), 422, "id"},
			{with("colour", "red"), 422, "colour"},
			{with("actor", bert.id), 422, "actor"},
		}
		lines := []object{good}
		for _, c := range cases {
			a := anna.post("/v1/activities", c.body).is(c.status)
			if a.header.Get("Content-Type") != "application/problem+json" || c.field != "" && !strings.Contains(string(a.body), `"field":"`+c.field+`"`) {
				t.Errorf("%v: %s", c.body, a.body)
			}
			lines = append(lines, c.body, good)
		}
		for i, l := range anna.batch(lines) {
			want := 201.0
			if i%2 == 1 {
				want = float64(cases[i/2].status)
			}
			if l["status"] != want || l["line"] != float64(i+1) {
				t.Errorf("line %d: %v, want status %v", i+1, l, want)
			}
		}
		for name, c := range map[string]struct {
			path, contentType, body string
			want                    int
		}{
			"a wrong content type":    {"/v1/activities", "text/plain", "{}", 415},
			"truncated JSON":          {"/v1/activities", "application/json", `{"type":"vis`, 400},
			"a batch of 9 MiB":        {"/v1/activities/batch", "application/x-ndjson", strings.Repeat(strings.Repeat(" ", 1023)+"\n", 9<<10), 413},
			"a batch of 10,001 lines": {"/v1/activities/batch", "application/x-ndjson", strings.Repeat("{}\n", 10_001), 413},
			"a batch as JSON":         {"/v1/activities/batch", "application/json", "{}", 415},
		} {
			if a := anna.send(http.MethodPost, c.path, c.contentType, strings.NewReader(c.body)); a.status != c.want {
				t.Errorf("%s: %d %s, want %d", name, a.status, a.body, c.want)
			}
		}
		anna.get("/v1/me/visitors?cursor=elsewhere").is(422)
		anna.get("/v1/me/visitors?limit=101").is(422)
		eventually(t, "the good ones", func() (any, bool) {
			l := bert.list("/v1/me/visitors")
			return l, len(l.Items) == 1 && l.Items[0]["count"] == float64(len(cases)+1)
		})
	})
}

func TestAnAnalystReplaysTheLog(t *testing.T) {
	bothWays(t, func(t *testing.T, where backend.Where) {
		h := open(t, where)
		anna, bert, analyst := h.register("anna"), h.register("bert"), h.with("analyst", "analyst")
		for range 5 {
			anna.act("visit", bert.id).is(http.StatusCreated)
		}
		bert.act("like", anna.id).is(http.StatusCreated)
		logs := analyst.list("/v1/logs")
		if len(logs.Items) != 3 {
			t.Fatalf("logs %v", logs)
		}
		lines := strings.Split(strings.TrimSpace(string(analyst.get("/v1/logs/activity/events?actor="+anna.id.String()).is(http.StatusOK).body)), "\n")
		if len(lines) != 5 {
			t.Fatalf("%d events, want 5: %s", len(lines), lines)
		}
		for _, want := range []string{`"specversion":"1.0"`, `"type":"activity.profile_visited.v1"`, `"data":{"actor":"` + anna.id.String() + `","target":"` + bert.id.String() + `"`, `"sequence":`} {
			if !strings.Contains(lines[0], want) {
				t.Errorf("%s is not in %s", want, lines[0])
			}
		}
		if strings.Contains(string(analyst.get("/v1/logs/user/events").is(http.StatusOK).body), "anna") {
			t.Error("the user log says a name in clear")
		}
	})
}
