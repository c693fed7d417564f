package fraud_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
)

// listedBulk is a bulk operation in a list.
type listedBulk struct {
	ID                        uuid.UUID
	Decision, Note            string
	By                        uuid.UUID
	At                        string
	Filter                    json.RawMessage
	Matched, Changed, Refused int
	Undone                    *struct {
		By               uuid.UUID
		At, Note         string
		Changed, Refused int
	}
}

// listBulks walks over the list with a page size.
func (r *running) listBulks(query string) (all []listedBulk) {
	r.Helper()
	for path := "/v1/moderation/bulk" + query; ; {
		var page struct {
			Items []listedBulk
			Next  string
		}
		r.ask("GET", path, "", moderator, "moderator").want(r, http.StatusOK).into(r, &page)
		all = append(all, page.Items...)
		if page.Next == "" {
			return all
		}
		path = "/v1/moderation/bulk" + query + "&cursor=" + page.Next
	}
}

func TestBulkOperationsAreListedTheNewestFirst(t *testing.T) {
	s, items := withFlags(t, 5)
	if all := s.listBulks(""); len(all) != 0 {
		t.Errorf("at first: %+v", all)
	}
	first := s.bulk(`{"filter":{"state":"open","min_score":40},"decision":"confirm","note":"all of them"}`)
	s.decide(items[1].ID, "overturn").want(t, http.StatusOK)
	s.clock.Set(start.Add(time.Hour))
	s.undo(first.ID).want(t, http.StatusOK)
	s.bulk(`{"ids":[%q],"decision":"dismiss","dry_run":true}`, items[0].ID)
	var ids []uuid.UUID
	for range 3 {
		ids = append([]uuid.UUID{s.bulk(`{"ids":[%q,%q],"decision":"escalate"}`, items[0].ID, uuid.New()).ID}, ids...)
	}
	ids = append(ids, first.ID)

	for _, query := range []string{"?limit=1", "?limit=2", "?limit=4", "?limit=100"} {
		all := s.listBulks(query)
		var got []uuid.UUID
		for _, o := range all {
			got = append(got, o.ID)
		}
		if !slices.Equal(got, ids) {
			t.Errorf("%s lists %v, want %v", query, got, ids)
		}
	}
	all := s.listBulks("?limit=100")
	// The flag that was escalated once cannot be again.
	if o := all[0]; o.Matched != 2 || o.Changed != 0 || o.Refused != 2 || o.Undone != nil || o.Filter != nil || o.Decision != "escalate" {
		t.Errorf("the last: %+v", o)
	}
	o := all[3]
	if o.By != moderator || o.At != "2026-03-01T12:00:00.123456Z" || o.Note != "all of them" || string(o.Filter) != `{"state":"open","min_score":40}` ||
		o.Matched != 5 || o.Changed != 5 || o.Refused != 0 || o.Decision != "confirm" {
		t.Errorf("the first: %+v", o)
	}
	if u := o.Undone; u == nil || u.By != moderator || u.At != "2026-03-01T13:00:00.123456Z" || u.Note != "too hasty" || u.Changed != 4 || u.Refused != 1 {
		t.Errorf("its undoing: %+v", o.Undone)
	}

	// An instance that is started later lists the same, and a page goes on where it
	// ended whatever is added before it.
	var page struct{ Next string }
	s.ask("GET", "/v1/moderation/bulk?limit=3", "", moderator, "moderator").want(t, http.StatusOK).into(t, &page)
	s.bulk(`{"ids":[%q],"decision":"dismiss"}`, uuid.New())
	var rest struct{ Items []listedBulk }
	s.world.run(likesRule("three-likes", 3, 40)).ask("GET", "/v1/moderation/bulk?limit=3&cursor="+page.Next, "", moderator, "moderator").want(t, http.StatusOK).into(t, &rest)
	if len(rest.Items) != 1 || rest.Items[0].ID != first.ID || rest.Items[0].Undone == nil {
		t.Errorf("the next page: %+v", rest.Items)
	}
	s.ask("GET", "/v1/moderation/bulk", "", analyst, "analyst").want(t, http.StatusForbidden)
	s.ask("GET", "/v1/moderation/bulk?cursor=x", "", moderator, "moderator").want(t, http.StatusUnprocessableEntity)
}
