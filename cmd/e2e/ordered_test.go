package e2e_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/backend"
)

const (
	likedByThree = `id: liked-by-three
title: Liked by three people within an hour
key: target
events: [like]
window: {sliding: 1h}
aggregate: distinct
threshold: 3
score: 10
`
	ringOfThree = `id: ring-of-three
title: Three people who liked the same two within an hour
events: [like]
window: {sliding: 1h}
aggregate: lockstep
lockstep: {targets: 2}
threshold: 3
score: 20
`
)

// TestRulesThatLookAtSeveralUsers takes rules live that need the one order of all
// partitions. They flag whom others like, and those who like in step; a backtest and a
// restart come to the same.
func TestRulesThatLookAtSeveralUsers(t *testing.T) {
	bothWays(t, func(t *testing.T, where backend.Where) {
		h := open(t, where)
		now := time.Now().UTC().Truncate(time.Second)
		service, mod, analyst := h.with("traffic", "service"), h.with("mod", "moderator"), h.with("analyst", "analyst")
		crowd := h.crowd(6, now.Add(-48*time.Hour))
		liking, liked := crowd[:3], crowd[3:5]
		rules := map[string]string{"liked-by-three": likedByThree, "ring-of-three": ringOfThree}
		for id, text := range rules {
			path := "/v1/moderation/rules/" + id
			mod.send("PUT", path+"?why=rings", "application/yaml", strings.NewReader(text)).is(http.StatusCreated)
			for _, mode := range []string{"shadow", "live"} {
				mod.post(path+"/mode", object{"mode": mode, "why": "let us see"}).is(http.StatusOK)
			}
		}
		lines := []object{{"type": "like", "actor": liking[0], "target": crowd[5], "occurred_at": now.Add(-time.Hour)}} // in step with nobody
		for i, actor := range liking {
			for j, target := range liked {
				lines = append(lines, object{"type": "like", "actor": actor, "target": target, "occurred_at": now.Add(time.Duration(10*i+j-3000) * time.Second)})
			}
		}
		for i, l := range service.batch(lines) {
			if l["status"] != 201.0 {
				t.Fatalf("line %d: %v", i, l)
			}
		}
		want := map[string][]string{"liked-by-three": texts(liked), "ring-of-three": texts(liking)}
		flags := func() map[string][]string {
			got := make(map[string][]string)
			for id := range rules {
				for _, f := range mod.list("/v1/moderation/flags?rule=" + id).Items {
					got[id] = append(got[id], f["user"].(string))
				}
				slices.Sort(got[id])
			}
			return got
		}
		all := func() (any, bool) {
			got := flags()
			return got, maps.EqualFunc(got, want, slices.Equal)
		}
		eventually(t, "the flags", all)
		shown := make(map[string]string)
		for id := range rules {
			for _, f := range mod.list("/v1/moderation/flags?rule=" + id).Items {
				path := "/v1/moderation/flags/" + f["id"].(string)
				var flag struct {
					User     string
					Evidence []struct{ Actor, Target string }
				}
				shown[path] = string(mod.get(path).is(http.StatusOK).into(&flag).body)
				actors := make(map[string]int)
				for _, e := range flag.Evidence {
					if e.Actor == "" { // it is the flagged one's own
						e.Actor = flag.User
					}
					actors[e.Actor]++
				}
				each := map[string]int{"liked-by-three": 1, "ring-of-three": 2}[id]
				if len(actors) != 3 || actors[liking[0].String()] != each || actors[liking[1].String()] != each || actors[liking[2].String()] != each {
					t.Errorf("%s of %s shows what %v did", id, flag.User, actors)
				}
			}
		}
		for i, r := range analyst.try(object{"rules": []any{"liked-by-three", "ring-of-three"}}).Report.Rules {
			if r.Users != []int{2, 3}[i] {
				t.Errorf("the backtest: %+v", r)
			}
		}

		h.stop()
		h = open(t, where)
		mod = h.as("mod")
		eventually(t, "the flags after a restart", all)
		for path, before := range shown {
			if after := string(mod.get(path).is(http.StatusOK).body); after != before {
				t.Errorf("after a restart %s, before %s", after, before)
			}
		}
	})
}

func texts(ids []uuid.UUID) (list []string) {
	for _, id := range ids {
		list = append(list, id.String())
	}
	slices.Sort(list)
	return list
}
