package fraud_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud"
)

// refused is a flag that a bulk operation has left alone.
type refused struct {
	ID     uuid.UUID
	Status int
	Detail string
}

// operation is a bulk operation in an answer.
type operation struct {
	ID       uuid.UUID
	DryRun   bool `json:"dry_run"`
	Decision string
	Note     string
	By       uuid.UUID
	Filter   json.RawMessage
	Matched  int
	Changed  int
	Refused  []refused
	Items    []uuid.UUID
	Undone   *struct {
		By      uuid.UUID
		Note    string
		Changed int
		Refused []refused
		Items   []uuid.UUID
	}
}

// bulk sends a bulk operation, which must succeed.
func (r *running) bulk(format string, args ...any) (o operation) {
	r.Helper()
	r.ask("POST", "/v1/moderation/bulk", fmt.Sprintf(format, args...), moderator, "moderator").want(r, http.StatusOK).into(r, &o)
	return o
}

func (r *running) undo(id uuid.UUID) answer {
	r.Helper()
	return r.ask("POST", "/v1/moderation/bulk/"+id.String()+"/undo", `{"note":"too hasty"}`, moderator, "moderator")
}

func quoted(ids []uuid.UUID) string {
	text, _ := json.Marshal(ids)
	return string(text)
}

// sorted are IDs in an order that does not hang on who found them how.
func sorted(ids []uuid.UUID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.String()
	}
	slices.Sort(out)
	return out
}

func TestABulkOperationDecidesOnWhatItsFilterFinds(t *testing.T) {
	s, items := withFlags(t, 5)
	s.decide(items[0].ID, "confirm").want(t, http.StatusOK)
	before := len(s.fraudEvents(s.fraud, events.FlagDismissed))
	const body = `{"filter":{"state":"open","rule":"three-likes","min_score":40},"decision":"dismiss","note":"a test of ours","dry_run":%t}`

	dry := s.bulk(body, true)
	if !dry.DryRun || dry.Matched != 4 || dry.Changed != 4 || len(dry.Items) != 4 || len(dry.Refused) != 0 {
		t.Errorf("dry run: %+v", dry)
	}
	if n := len(s.fraudEvents(s.fraud, events.FlagDismissed)); n != before {
		t.Errorf("a dry run has dismissed %d flags", n-before)
	}
	s.ask("GET", "/v1/moderation/bulk/"+dry.ID.String(), "", moderator, "moderator").want(t, http.StatusNotFound)

	done := s.bulk(body, false)
	if done.DryRun || done.Changed != 4 || !slices.Equal(sorted(done.Items), sorted(dry.Items)) || done.By != moderator {
		t.Errorf("done: %+v, want what the dry run said", done)
	}
	if left, _ := s.flags("?state=dismissed"); len(left) != 4 {
		t.Errorf("%d flags are dismissed, want 4", len(left))
	}
	f := s.flag(done.Items[0])
	last := f.History[len(f.History)-1]
	if last.Type != "dismissed" || *last.By != moderator || last.Note != "a test of ours" || last.Bulk == nil || *last.Bulk != done.ID {
		t.Errorf("history: %+v", f.History)
	}
	var shown operation
	s.ask("GET", "/v1/moderation/bulk/"+done.ID.String(), "", moderator, "moderator").want(t, http.StatusOK).into(t, &shown)
	if shown.Changed != 4 || shown.Decision != "dismiss" || shown.Note != "a test of ours" || shown.Undone != nil ||
		string(shown.Filter) != `{"state":"open","rule":"three-likes","min_score":40}` || !slices.Equal(sorted(shown.Items), sorted(done.Items)) {
		t.Errorf("shown: %+v", shown)
	}
	s.ask("GET", "/v1/moderation/bulk/"+items[0].ID.String(), "", moderator, "moderator").want(t, http.StatusNotFound)
}

func TestABulkOperationRefusesWhatCannotBeDecidedAndGoesOn(t *testing.T) {
	s, items := withFlags(t, 3)
	s.decide(items[1].ID, "dismiss").want(t, http.StatusOK)
	nobody := uuid.New()
	o := s.bulk(`{"ids":%s,"decision":"confirm"}`, quoted([]uuid.UUID{items[0].ID, nobody, items[1].ID, items[2].ID, items[0].ID}))
	if o.Matched != 4 || o.Changed != 2 || !slices.Equal(sorted(o.Items), sorted([]uuid.UUID{items[0].ID, items[2].ID})) {
		t.Errorf("%+v", o)
	}
	if len(o.Refused) != 2 || o.Refused[0].ID != nobody || o.Refused[0].Status != 404 ||
		o.Refused[1].ID != items[1].ID || o.Refused[1].Status != 409 || !strings.Contains(o.Refused[1].Detail, "dismissed") {
		t.Errorf("refused: %+v", o.Refused)
	}
	if f := s.flag(items[1].ID); f.State != "dismissed" || len(f.History) != 2 {
		t.Errorf("%+v", f)
	}
}

func TestABulkOperationThatIsSentAgainIsDoneOnce(t *testing.T) {
	s, items := withFlags(t, 3)
	id := uuid.New()
	body := fmt.Sprintf(`{"id":%q,"filter":{"state":"open"},"decision":"confirm","note":"x"}`, id)
	first := s.bulk("%s", body)
	again := s.bulk("%s", body)
	if first.ID != id || first.Changed != 3 || again.Changed != 3 || !slices.Equal(first.Items, again.Items) {
		t.Errorf("first %+v, then %+v", first, again)
	}
	if n := len(s.fraudEvents(s.fraud, events.FlagConfirmed)); n != 3 {
		t.Errorf("%d confirmations, want 3", n)
	}
	for what, other := range map[string]string{
		"another decision":  fmt.Sprintf(`{"id":%q,"filter":{"state":"open"},"decision":"dismiss","note":"x"}`, id),
		"another filter":    fmt.Sprintf(`{"id":%q,"filter":{"state":"appealed"},"decision":"confirm","note":"x"}`, id),
		"ids, not a filter": fmt.Sprintf(`{"id":%q,"ids":[%q],"decision":"confirm","note":"x"}`, id, items[0].ID),
		"a flag's id":       fmt.Sprintf(`{"id":%q,"filter":{"state":"open"},"decision":"confirm"}`, items[0].ID),
	} {
		if a := s.ask("POST", "/v1/moderation/bulk", other, moderator, "moderator"); a.status != http.StatusConflict {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	s.ask("POST", "/v1/moderation/bulk", body, uuid.UUID{0x0d, 2}, "moderator").want(t, http.StatusConflict)

	// The same flags by name, in another order.
	ids := []uuid.UUID{items[0].ID, items[1].ID}
	id = uuid.New()
	first = s.bulk(`{"id":%q,"ids":%s,"decision":"overturn"}`, id, quoted(ids))
	slices.Reverse(ids)
	again = s.bulk(`{"id":%q,"ids":%s,"decision":"overturn"}`, id, quoted(ids))
	if first.Changed != 2 || !slices.Equal(first.Items, again.Items) {
		t.Errorf("first %+v, then %+v", first, again)
	}
}

func TestABulkOperationWhoseAnswerWasLostCanBeSentAgain(t *testing.T) {
	w := newWorld(t)
	store, err := w.db.Log("fraud-brittle", events.FraudPartitions)
	if err != nil {
		t.Fatal(err)
	}
	b := &brittle{Store: store}
	w.fraud = log.New(b, log.Options{Clock: w.clock.Now, Backoff: func(context.Context, int) error { return errDown }})
	t.Cleanup(w.fraud.Close)
	w.raise(3, "three-likes", 0)
	s := w.run(likesRule("three-likes", 3, 40))
	b.down.Store(true)
	body := fmt.Sprintf(`{"id":%q,"filter":{"state":"open"},"decision":"confirm"}`, uuid.New())
	a := s.ask("POST", "/v1/moderation/bulk", body, moderator, "moderator").want(t, http.StatusServiceUnavailable)
	if a.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	if open, _ := s.flags("?state=open"); len(open) != 3 {
		t.Errorf("%d flags are open, want all of them or none to be decided on", len(open))
	}
	b.down.Store(false)
	if o := s.bulk("%s", body); o.Changed != 3 {
		t.Errorf("%+v", o)
	}
}

func TestUndoTakesBackWhatStillStandsAndNamesTheRest(t *testing.T) {
	s, items := withFlags(t, 4)
	o := s.bulk(`{"filter":{"state":"open"},"decision":"confirm","note":"all of them"}`)
	s.ask("POST", "/v1/me/appeals", fmt.Sprintf(`{"flag":%q,"text":"please"}`, items[1].ID), user(2)).want(t, http.StatusCreated)
	s.decide(items[2].ID, "overturn").want(t, http.StatusOK)
	// A note does not move a flag on.
	s.ask("POST", "/v1/moderation/flags/"+items[3].ID.String()+"/notes", `{"text":"this was wrong"}`, moderator, "moderator").want(t, http.StatusOK)

	var undone operation
	s.undo(o.ID).want(t, http.StatusOK).into(t, &undone)
	u := undone.Undone
	if u == nil || u.By != moderator || u.Note != "too hasty" || u.Changed != 2 || !slices.Equal(sorted(u.Items), sorted([]uuid.UUID{items[0].ID, items[3].ID})) {
		t.Fatalf("%+v", u)
	}
	if len(u.Refused) != 2 || u.Refused[0].Status != 409 {
		t.Errorf("refused: %+v", u.Refused)
	}
	for i, want := range []string{"open", "appealed", "overturned", "open"} {
		if f := s.flag(items[i].ID); f.State != want {
			t.Errorf("flag %d is %s, want %s", i, f.State, want)
		}
	}
	f := s.flag(items[0].ID)
	if last := f.History[len(f.History)-1]; last.Type != "undone" || last.Undoes != "confirm" || *last.By != moderator || last.Note != "too hasty" || *last.Bulk != o.ID {
		t.Errorf("history: %+v", f.History)
	}
	s.undo(o.ID).want(t, http.StatusConflict)
	s.undo(uuid.New()).want(t, http.StatusNotFound)
	s.undo(items[0].ID).want(t, http.StatusNotFound)
	var shown operation
	s.ask("GET", "/v1/moderation/bulk/"+o.ID.String(), "", moderator, "moderator").want(t, http.StatusOK).into(t, &shown)
	if shown.Undone == nil || shown.Undone.Changed != 2 || len(shown.Undone.Refused) != 2 || shown.Changed != 4 {
		t.Errorf("shown: %+v", shown)
	}
	// They can be decided on anew, and each such event is there for those who follow.
	s.decide(items[0].ID, "dismiss").want(t, http.StatusOK)
	if n := len(s.fraudEvents(s.fraud, events.DecisionUndone)); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}

func TestAnUndoneDismissalDoesNotStandBesideANewFlag(t *testing.T) {
	s, items := withFlags(t, 1)
	o := s.bulk(`{"ids":[%q],"decision":"dismiss"}`, items[0].ID)
	s.post(likes(user(1), 3, start.AddDate(0, 0, 31))...)
	s.catchUp()
	if open, _ := s.flags("?state=open"); len(open) != 1 {
		t.Fatalf("after the snooze: %+v", open)
	}
	var undone operation
	s.undo(o.ID).want(t, http.StatusOK).into(t, &undone)
	if u := undone.Undone; u.Changed != 0 || len(u.Refused) != 1 || !strings.Contains(u.Refused[0].Detail, "another flag") {
		t.Errorf("%+v", undone.Undone)
	}
	if f := s.flag(items[0].ID); f.State != "dismissed" {
		t.Errorf("%+v", f)
	}
}

func TestABulkOperationIsBounded(t *testing.T) {
	w := newWorld(t)
	ids := w.raise(fraud.MaxBulk+1, "three-likes", 0)
	s := w.run(likesRule("three-likes", 3, 40))
	a := s.ask("POST", "/v1/moderation/bulk", `{"filter":{"state":"open"},"decision":"dismiss"}`, moderator, "moderator").want(t, http.StatusUnprocessableEntity)
	if !strings.Contains(string(a.body), "narrow") {
		t.Errorf("it does not say what to do: %s", a.body)
	}
	s.ask("POST", "/v1/moderation/bulk", fmt.Sprintf(`{"ids":%s,"decision":"dismiss"}`, quoted(ids)), moderator, "moderator").want(t, http.StatusUnprocessableEntity)
	if n := len(w.fraudEvents(w.fraud, events.FlagDismissed)); n != 0 {
		t.Fatalf("%d flags were dismissed all the same", n)
	}

	// As many as are allowed, with the note that takes the most room, and back.
	note := strings.Repeat("<", fraud.MaxBulkNote)
	o := s.bulk(`{"ids":%s,"decision":"dismiss","note":%q}`, quoted(ids[:fraud.MaxBulk]), note)
	if o.Changed != fraud.MaxBulk {
		t.Errorf("%d were dismissed", o.Changed)
	}
	var undone operation
	s.ask("POST", "/v1/moderation/bulk/"+o.ID.String()+"/undo", fmt.Sprintf(`{"note":%q}`, note), moderator, "moderator").want(t, http.StatusOK).into(t, &undone)
	if undone.Undone.Changed != fraud.MaxBulk {
		t.Errorf("%d were taken back", undone.Undone.Changed)
	}
	// And as many as are allowed that are all refused, for the longest of reasons.
	strangers := make([]uuid.UUID, fraud.MaxBulk)
	for i := range strangers {
		strangers[i] = ids[i]
	}
	s.bulk(`{"ids":%s,"decision":"confirm"}`, quoted(strangers))
	if o := s.bulk(`{"ids":%s,"decision":"overturn","note":%q}`, quoted(strangers), note); o.Changed != fraud.MaxBulk {
		t.Errorf("%d were overturned", o.Changed)
	}
	if o := s.bulk(`{"ids":%s,"decision":"overturn","note":%q}`, quoted(strangers), note); len(o.Refused) != fraud.MaxBulk {
		t.Errorf("%d were refused", len(o.Refused))
	}
}

func TestABulkOperationIsAnsweredAgainWhateverItsFilterFindsByNow(t *testing.T) {
	w := newWorld(t)
	w.raise(fraud.MaxBulk, "three-likes", 0)
	s := w.run(likesRule("three-likes", 3, 40))
	body := fmt.Sprintf(`{"id":%q,"filter":{"rule":"three-likes"},"decision":"dismiss"}`, uuid.New())
	first := s.bulk("%s", body)
	w.raise(fraud.MaxBulk+1, "three-likes", 0) // one more
	if again := s.bulk("%s", body); first.Changed != fraud.MaxBulk || !slices.Equal(first.Items, again.Items) {
		t.Errorf("first %d were dismissed, then %d", first.Changed, again.Changed)
	}
	other := strings.Replace(body, "dismiss", "confirm", 1)
	s.ask("POST", "/v1/moderation/bulk", other, moderator, "moderator").want(t, http.StatusUnprocessableEntity)
}

func TestABadBulkOperationIsRefusedWithTheFieldsName(t *testing.T) {
	s, items := withFlags(t, 1)
	id := items[0].ID.String()
	for _, c := range []struct {
		body   string
		status int
		names  string
	}{
		{`{"decision":"dismiss"}`, 422, "filter"},
		{`{"filter":{},"decision":"dismiss"}`, 422, "filter"},
		{`{"ids":[],"decision":"dismiss"}`, 422, "filter"},
		{`{"ids":["` + id + `"],"filter":{"state":"open"},"decision":"dismiss"}`, 422, "ids"},
		{`{"ids":["` + id + `"],"decision":"ban","note":"` + strings.Repeat("ä", 501) + `"}`, 422, "decision note"},
		{`{"ids":["` + id + `"]}`, 422, "decision"},
		{`{"ids":["x"],"decision":"dismiss"}`, 422, "ids[0]"},
		{`{"filter":{"state":"shut","rule":"A_B","user":"1","min_score":101,"assignee":"you","since":"now","until":"1"},"decision":"dismiss"}`, 422,
			"filter.state filter.rule filter.user filter.min_score filter.assignee filter.since filter.until"},
		{`{"filter":{"sort":"score"},"decision":"dismiss"}`, 422, "filter.sort"},
		{`{"filter":{"state":"open"},"decision":"dismiss","id":"x"}`, 422, "id"},
		{`{"filter":`, 400, ""},
	} {
		a := s.ask("POST", "/v1/moderation/bulk", c.body, moderator, "moderator")
		var p struct {
			Errors []struct{ Field string }
		}
		if a.status != c.status || json.Unmarshal(a.body, &p) != nil {
			t.Errorf("%s: %d %s, want %d", c.body, a.status, a.body, c.status)
			continue
		}
		var named []string
		for _, e := range p.Errors {
			named = append(named, e.Field)
		}
		slices.Sort(named)
		want := strings.Fields(c.names)
		slices.Sort(want)
		if !slices.Equal(named, want) {
			t.Errorf("%s names %v, want %v", c.body, named, want)
		}
	}
	s.ask("POST", "/v1/moderation/bulk/x/undo", "", moderator, "moderator").want(t, http.StatusUnprocessableEntity)
	s.ask("POST", "/v1/moderation/bulk/"+uuid.NewString()+"/undo", `{"note":"`+strings.Repeat("ä", 501)+`"}`, moderator, "moderator").want(t, http.StatusUnprocessableEntity)
	if f := s.flag(items[0].ID); len(f.History) != 1 {
		t.Errorf("something was done all the same: %+v", f.History)
	}
}

// Several moderators decide on the same flags at once, one by one and in bulk, at
// two instances: each flag is decided on once, by the one who was told so.
func TestOfBulkOperationsAndModeratorsWhoDecideAtOnceOneDoes(t *testing.T) {
	const n = 40
	w := newWorld(t)
	ids := w.raise(n, "three-likes", 0)
	instances := []*running{w.run(likesRule("three-likes", 3, 40)), w.run(likesRule("three-likes", 3, 40))}
	var mu sync.Mutex
	told := map[uuid.UUID][]string{} // what decisions were accepted
	accept := func(id uuid.UUID, decision string) {
		mu.Lock()
		defer mu.Unlock()
		told[id] = append(told[id], decision)
	}
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i, id := range ids {
		wg.Go(func() {
			<-begin
			switch a := instances[i%2].decide(id, "confirm"); a.status {
			case http.StatusOK:
				accept(id, "confirm")
			case http.StatusConflict:
			default:
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	for i := range 4 {
		wg.Go(func() {
			<-begin
			o := instances[i%2].bulk(`{"ids":%s,"decision":"dismiss"}`, quoted(ids))
			if o.Matched != n || len(o.Items)+len(o.Refused) != n {
				t.Errorf("%+v", o)
			}
			for _, id := range o.Items {
				accept(id, "dismiss")
			}
		})
	}
	close(begin)
	wg.Wait()
	for _, s := range instances {
		for _, id := range ids {
			f := s.flag(id)
			want := map[string]string{"confirmed": "confirm", "dismissed": "dismiss"}[f.State]
			if len(f.History) != 2 || len(told[id]) != 1 || told[id][0] != want {
				t.Errorf("%s is %s after %d events, and %v were told that they did it", id, f.State, len(f.History), told[id])
			}
		}
	}
}

// Requests with one id that ask for different things must not both be done, not
// even in part.
func TestOfTwoBulkOperationsWithOneIDOneIsDone(t *testing.T) {
	w := newWorld(t)
	ids := w.raise(20, "three-likes", 0)
	instances := []*running{w.run(likesRule("three-likes", 3, 40)), w.run(likesRule("three-likes", 3, 40))}
	for round := range 5 {
		id, part := uuid.New(), ids[4*round:4*round+4]
		statuses := make([]int, 4)
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range statuses {
			body := fmt.Sprintf(`{"id":%q,"ids":[%q],"decision":"confirm"}`, id, part[i])
			wg.Go(func() {
				<-begin
				statuses[i] = instances[i%2].ask("POST", "/v1/moderation/bulk", body, moderator, "moderator").status
			})
		}
		close(begin)
		wg.Wait()
		slices.Sort(statuses)
		if want := []int{200, 409, 409, 409}; !slices.Equal(statuses, want) {
			t.Errorf("%v, want %v", statuses, want)
		}
		if n := len(w.fraudEvents(w.fraud, events.FlagConfirmed)); n != round+1 {
			t.Fatalf("%d flags are confirmed after %d operations", n, round+1)
		}
	}
}

// A flag may have moved on where this build cannot read it: then the operation goes
// on without it.
func TestABulkOperationLeavesAFlagAloneThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	ids := w.raise(3, "three-likes", 0)
	s := w.run(likesRule("three-likes", 3, 40))
	o := s.bulk(`{"ids":%s,"decision":"confirm"}`, quoted(ids[:2]))
	for i, version := range []uint64{3, 0, 2} {
		if version == 0 {
			continue
		}
		e := events.Event{ID: uuid.New(), Type: events.FlagAssigned, Stream: ids[i], Version: version, OccurredAt: start, Data: []byte(`{"assignee":7}`)}
		if _, err := w.fraud.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the events are parked", func() bool { return s.parked("fraud-flags") == 2 })
	var undone operation
	s.undo(o.ID).want(t, http.StatusOK).into(t, &undone)
	if u := undone.Undone; u.Changed != 1 || u.Items[0] != ids[1] || len(u.Refused) != 1 || u.Refused[0].ID != ids[0] {
		t.Errorf("undone: %+v", u)
	}
	o = s.bulk(`{"ids":%s,"decision":"dismiss"}`, quoted(ids[1:]))
	if o.Changed != 1 || o.Items[0] != ids[1] || len(o.Refused) != 1 || o.Refused[0].ID != ids[2] {
		t.Errorf("%+v", o)
	}
}

func TestOfTwoWhoUndoAtOnceOneDoes(t *testing.T) {
	w := newWorld(t)
	w.raise(20, "three-likes", 0)
	instances := []*running{w.run(likesRule("three-likes", 3, 40)), w.run(likesRule("three-likes", 3, 40))}
	o := instances[0].bulk(`{"filter":{"state":"open"},"decision":"confirm"}`)
	statuses := make([]int, 6)
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range statuses {
		wg.Go(func() {
			<-begin
			statuses[i] = instances[i%2].undo(o.ID).status
		})
	}
	close(begin)
	wg.Wait()
	slices.Sort(statuses)
	if want := []int{200, 409, 409, 409, 409, 409}; !slices.Equal(statuses, want) {
		t.Errorf("%v, want %v", statuses, want)
	}
	if n := len(w.fraudEvents(w.fraud, events.DecisionUndone)); n != 20 {
		t.Errorf("%d decisions were undone, want 20", n)
	}
}

func TestWhatIsUndoneAfterItsTimeExpires(t *testing.T) {
	w := newWorld(t)
	ids := w.raise(1, "three-likes", time.Hour)
	s := w.sweeping(likesRule("three-likes", 3, 40))
	o := s.bulk(`{"ids":%s,"decision":"dismiss"}`, quoted(ids))
	w.clock.Set(start.Add(2 * time.Hour))
	s.undo(o.ID).want(t, http.StatusOK)
	until(t, "the flag has expired", func() bool { return s.flag(ids[0]).State == "expired" })
}
