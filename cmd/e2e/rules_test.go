package e2e_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/backend"
)

const someLikes = `id: some-likes
title: Liked three people within an hour
events: [like]
window: {sliding: 1h}
aggregate: count
threshold: 3
score: 10
`

// TestARuleGoesLiveWithoutARestart has a moderator put a rule, look at whom it would
// flag, and take it live, while members go on.
func TestARuleGoesLiveWithoutARestart(t *testing.T) {
	bothWays(t, func(t *testing.T, where backend.Where) {
		h := open(t, where)
		now := time.Now().UTC().Truncate(time.Second)
		service, mod := h.with("traffic", "service"), h.with("mod", "moderator")
		crowd := h.crowd(10, now.Add(-48*time.Hour))
		// like has one of the crowd like so many others.
		like := func(actor uuid.UUID, n int) {
			t.Helper()
			var lines []object
			for i := range n {
				lines = append(lines, object{"type": "like", "actor": actor, "target": crowd[5+i], "occurred_at": now.Add(-time.Hour + time.Duration(i)*time.Second)})
			}
			for i, l := range service.batch(lines) {
				if l["status"] != 201.0 {
					t.Fatalf("line %d: %v", i, l)
				}
			}
		}
		const path = "/v1/moderation/rules/some-likes"
		shown := func(is func(rule object) bool) func() (any, bool) {
			return func() (any, bool) {
				var rule object
				mod.get(path).is(http.StatusOK).into(&rule)
				return rule, is(rule)
			}
		}
		flagged := func() []object { return mod.list("/v1/moderation/flags?rule=some-likes").Items }

		like(crowd[0], 3)
		mod.send("PUT", path+"?why=bots", "application/yaml", strings.NewReader(someLikes)).is(http.StatusCreated)
		mod.post(path+"/mode", object{"mode": "live", "why": "at once"}).is(http.StatusConflict)
		mod.post(path+"/mode", object{"mode": "shadow", "why": "let us see"}).is(http.StatusOK)
		like(crowd[1], 3)
		eventually(t, "the hits in shadow, that of history among them", shown(func(rule object) bool {
			return rule["hits"] == 2.0 && rule["warming"] == false
		}))
		if hits := mod.list(path + "/hits").Items; len(hits) != 2 {
			t.Errorf("hits: %v", hits)
		}
		mod.post(path+"/mode", object{"mode": "live", "why": "precise enough"}).is(http.StatusOK)
		like(crowd[2], 3)
		eventually(t, "the flag of who did it after it went live", func() (any, bool) {
			l := flagged()
			return l, len(l) == 1 && l[0]["user"] == crowd[2].String()
		})
		mod.send("PUT", path+"?why=too+strict", "application/yaml", strings.NewReader(strings.Replace(someLikes, "threshold: 3", "threshold: 4", 1))).is(http.StatusOK)
		eventually(t, "the new version runs", shown(func(rule object) bool { return rule["warming"] == false && rule["hits"] == 0.0 }))
		like(crowd[3], 3)
		like(crowd[4], 4)
		eventually(t, "the flag of the new version", func() (any, bool) {
			l := flagged()
			return l, len(l) == 2 && l[0]["user"] == crowd[4].String()
		})
		if versions := mod.list(path + "/versions").Items; len(versions) != 2 || versions[0]["why"] != "too strict" {
			t.Errorf("versions: %v", versions)
		}

		// After a restart it is all as it was.
		h.stop()
		h = open(t, where)
		mod = h.as("mod")
		eventually(t, "the rule after a restart", shown(func(rule object) bool {
			return rule["mode"] == "live" && rule["threshold"] == 4.0 && rule["hits"] == 1.0
		}))
		if l := flagged(); len(l) != 2 {
			t.Errorf("after a restart: %v", l)
		}
	})
}
