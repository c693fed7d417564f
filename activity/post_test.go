package activity_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

const (
	single = "/v1/activities"
	lines  = "/v1/activities/batch"
)

func TestAnActivityIsAnsweredWithWhatStandsInTheLog(t *testing.T) {
	w := newWorld(t).run()
	ann, bob := w.newUser(), w.newUser()
	kinds := map[string]string{
		"visit": events.ProfileVisited, "like": events.ProfileLiked, "unlike": events.LikeWithdrawn,
	}
	for kind, eventType := range kinds {
		id := uuid.New()
		body := fmt.Sprintf(`{"type":%q,"target":%q,"id":%q,"occurred_at":"2026-03-01T10:00:00+01:00"}`, kind, bob, id)
		got := w.reply(w.post(single, w.token(ann), body), http.StatusCreated)
		if got.ID != id || got.Type != kind || got.Actor != ann || got.Target != bob ||
			got.OccurredAt != "2026-03-01T09:00:00.000000Z" || got.RecordedAt != "2026-03-01T12:00:00.123456Z" {
			t.Errorf("%s is answered with %+v", kind, got)
		}
		found := false
		for _, e := range w.recorded() {
			if e.ID != id {
				continue
			}
			found = true
			a, err := events.ParseActivity(e.Data)
			if err != nil {
				t.Fatal(err)
			}
			if e.Type != eventType || e.Stream != ann || a.Target != bob || !a.JoinedAt.Equal(joined) || a.Trusted ||
				e.Position != (events.Position{Partition: got.Partition, Sequence: got.Sequence}) ||
				e.OccurredAt.Format(time.RFC3339Nano) != "2026-03-01T09:00:00Z" {
				t.Errorf("%s stands in the log as %+v %+v", kind, e, a)
			}
		}
		if !found {
			t.Errorf("%s is not in the log", kind)
		}
	}
}

func TestWhatIsLeftOutIsFilledIn(t *testing.T) {
	w := newWorld(t).run()
	ann, bob := w.newUser(), w.newUser()
	got := w.reply(w.post(single, w.token(ann), fmt.Sprintf(`{"type":"visit","target":%q,"id":null}`, bob)), http.StatusCreated)
	if got.ID.Version() != 7 {
		t.Errorf("id %s is no UUIDv7", got.ID)
	}
	if got.OccurredAt != "2026-03-01T12:00:00.123456Z" {
		t.Errorf("occurred_at is %s", got.OccurredAt)
	}
}

func TestTheSameIDAgainGetsTheFirstAnswer(t *testing.T) {
	w := newWorld(t).run()
	ann, bob, eve := w.newUser(), w.newUser(), w.newUser()
	id := uuid.New()
	first := w.post(single, w.token(ann), fmt.Sprintf(`{"type":"visit","target":%q,"id":%q}`, bob, id))
	w.reply(first, http.StatusCreated)
	w.clock.Set(w.clock.Now().Add(time.Minute))

	again := w.post(single, w.token(ann), fmt.Sprintf(`{"type":"like","target":%q,"id":%q}`, eve, id))
	w.reply(again, http.StatusOK)
	if again.Body.String() != first.Body.String() {
		t.Errorf("first %s\nagain %s", first.Body, again.Body)
	}
	if n := len(w.recorded()); n != 1 {
		t.Errorf("%d events in the log", n)
	}
}

func TestAnIDOfAnotherActorIsAConflict(t *testing.T) {
	w := newWorld(t).run()
	ann, bob := w.newUser(), w.newUser()
	eve := w.newUser()
	for events.PartitionOf(eve, events.ActivityPartitions) != events.PartitionOf(ann, events.ActivityPartitions) {
		eve = w.newUser()
	}
	body := fmt.Sprintf(`{"type":"visit","target":%q,"id":%q}`, bob, uuid.New())
	w.reply(w.post(single, w.token(ann), body), http.StatusCreated)
	got := w.reply(w.post(single, w.token(eve), body), http.StatusConflict)
	if got.fields() != "id" {
		t.Errorf("the problem names %q", got.fields())
	}
	line := w.replies(w.post(lines, w.token(eve), body))[0]
	if line.Status != http.StatusConflict || line.fields() != "id" {
		t.Errorf("the line is answered with %+v", line)
	}
}

// bad is bodies that are refused, alone and as a line, and the fields that the
// problem names. TARGET stands for a user, SELF for the caller.
var bad = map[string]struct {
	body   string
	status int
	fields string
}{
	"nothing":                       {``, 400, ""},
	"spaces":                        {`  `, 400, ""},
	"truncated JSON":                {`{"type":"visit","target":"TARGET"`, 400, ""},
	"truncated string":              {`{"type":"vis`, 400, ""},
	"no JSON":                       {`type=visit`, 400, ""},
	"two values":                    {`{"type":"visit","target":"TARGET"} {}`, 400, ""},
	"invalid UTF-8":                 {"{\"type\":\"visit\xff\",\"target\":\"TARGET\"}", 400, ""},
	"an array":                      {`[]`, 422, "body"},
	"null":                          {`null`, 422, "body"},
	"no fields":                     {`{}`, 422, "type target"},
	"unknown field":                 {`{"type":"visit","target":"TARGET","hurry":true}`, 422, "hurry"},
	"repeated field":                {`{"type":"visit","type":"like","target":"TARGET"}`, 422, "type"},
	"field in other case":           {`{"Type":"visit","target":"TARGET"}`, 422, "Type"},
	"number for a string":           {`{"type":1,"target":"TARGET"}`, 422, "type"},
	"unknown type":                  {`{"type":"poke","target":"TARGET"}`, 422, "type"},
	"event type for a type":         {`{"type":"activity.profile_visited.v1","target":"TARGET"}`, 422, "type"},
	"empty type":                    {`{"type":"","target":"TARGET"}`, 422, "type"},
	"no target":                     {`{"type":"visit"}`, 422, "target"},
	"malformed target":              {`{"type":"visit","target":"bob"}`, 422, "target"},
	"target in braces":              {`{"type":"visit","target":"{TARGET}"}`, 422, "target"},
	"nil target":                    {`{"type":"visit","target":"00000000-0000-0000-0000-000000000000"}`, 422, "target"},
	"target with letters":           {`{"type":"visit","target":"0000000g-0000-0000-0000-000000000000"}`, 422, "target"},
	"oneself":                       {`{"type":"visit","target":"SELF"}`, 422, "target"},
	"unknown target":                {`{"type":"visit","target":"7b2e3f0a-52a1-4a55-8f77-0d3ae1f3a9a0"}`, 404, "target"},
	"malformed id":                  {`{"type":"visit","target":"TARGET","id":"1"}`, 422, "id"},
	"empty id":                      {`{"type":"visit","target":"TARGET","id":""}`, 422, "id"},
	"nil id":                        {`{"type":"visit","target":"TARGET","id":"00000000-0000-0000-0000-000000000000"}`, 422, "id"},
	"actor set by a member":         {`{"type":"visit","target":"TARGET","actor":"TARGET"}`, 422, "actor"},
	"own actor set by a member":     {`{"type":"visit","target":"TARGET","actor":"SELF"}`, 422, "actor"},
	"occurred_at is no time":        {`{"type":"visit","target":"TARGET","occurred_at":"yesterday"}`, 422, "occurred_at"},
	"occurred_at without zone":      {`{"type":"visit","target":"TARGET","occurred_at":"2026-03-01T12:00:00"}`, 422, "occurred_at"},
	"occurred_at on no day":         {`{"type":"visit","target":"TARGET","occurred_at":"2026-02-30T12:00:00Z"}`, 422, "occurred_at"},
	"occurred_at in the future":     {`{"type":"visit","target":"TARGET","occurred_at":"2026-03-01T12:00:06Z"}`, 422, "occurred_at"},
	"occurred_at 72 h and more ago": {`{"type":"visit","target":"TARGET","occurred_at":"2026-02-26T12:00:00Z"}`, 422, "occurred_at"},
	"everything wrong":              {`{"type":"x","target":"y","id":"z","occurred_at":"u","actor":"v"}`, 422, "type target id actor occurred_at"},
}

func TestBadActivitiesAreRefusedByField(t *testing.T) {
	w := newWorld(t).run()
	ann, bob := w.newUser(), w.newUser()
	fill := strings.NewReplacer("TARGET", bob.String(), "SELF", ann.String())
	for name, c := range bad {
		t.Run(name, func(t *testing.T) {
			got := w.reply(w.post(single, w.token(ann), fill.Replace(c.body)), c.status)
			if got.fields() != c.fields {
				t.Errorf("names %q, want %q: %+v", got.fields(), c.fields, got)
			}
		})
	}
	if n := len(w.recorded()); n != 0 {
		t.Errorf("%d events in the log", n)
	}
}

func TestABadLineLeavesTheOthersAlone(t *testing.T) {
	w := newWorld(t).run()
	ann, bob := w.newUser(), w.newUser()
	fill := strings.NewReplacer("TARGET", bob.String(), "SELF", ann.String())
	type want struct {
		status int
		fields string
	}
	var body strings.Builder
	var wants []want
	accepted := 0
	for _, c := range bad {
		fmt.Fprintf(&body, "%s\n", fill.Replace(c.body))
		fmt.Fprintf(&body, "{\"type\":\"visit\",\"target\":%q}\r\n", bob)
		wants = append(wants, want{c.status, c.fields}, want{status: 201})
		accepted++
	}
	got := w.replies(w.post(lines, w.token(ann), body.String()))
	if len(got) != len(wants) {
		t.Fatalf("%d lines are answered, want %d", len(got), len(wants))
	}
	for i, r := range got {
		if r.Status != wants[i].status || r.fields() != wants[i].fields || r.Status >= 400 && r.Title == "" {
			t.Errorf("line %d: %+v, want %+v", i+1, r, wants[i])
		}
	}
	if n := len(w.recorded()); n != accepted {
		t.Errorf("%d events in the log, want %d", n, accepted)
	}
}

func TestEdgesOfOccurredAt(t *testing.T) {
	w := newWorld(t).run()
	ann, bob, now := w.newUser(), w.newUser(), w.clock.Now()
	for at, status := range map[time.Time]int{
		now.Add(5 * time.Second):                      201,
		now.Add(5*time.Second + time.Microsecond):     422,
		now.Add(-72 * time.Hour):                      201,
		now.Add(-72*time.Hour - time.Microsecond):     422,
		now.In(time.FixedZone("", 5*3600)):            201,
		time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC): 422,
	} {
		body := fmt.Sprintf(`{"type":"visit","target":%q,"occurred_at":%q}`, bob, at.Format(time.RFC3339Nano))
		if rec := w.post(single, w.token(ann), body); rec.Code != status {
			t.Errorf("%v: %d, want %d", at, rec.Code, status)
		}
	}
}

func TestATrustedSourceMaySetActorAndAnyPastTime(t *testing.T) {
	w := newWorld(t).run()
	bot, ann, bob := w.newUser(), w.newUser(), w.newUser()
	bearer := w.token(bot, "service")
	body := fmt.Sprintf(`{"type":"like","target":%q,"actor":%q,"occurred_at":"1999-01-01T00:00:00Z"}`, bob, ann)
	got := w.reply(w.post(single, bearer, body), http.StatusCreated)
	if got.Actor != ann || got.OccurredAt != "1999-01-01T00:00:00.000000Z" {
		t.Errorf("answered with %+v", got)
	}
	if line := w.replies(w.post(lines, bearer, body))[0]; line.Status != 201 || line.Actor != ann {
		t.Errorf("the line is answered with %+v", line)
	}
	for _, e := range w.recorded() {
		a, err := events.ParseActivity(e.Data)
		if err != nil || !a.Trusted || !events.RuleTime(e, a).Equal(e.OccurredAt) {
			t.Errorf("%+v, %v: not trusted", a, err)
		}
	}
	for name, c := range map[string]struct{ body, fields string }{
		"unknown actor":        {fmt.Sprintf(`{"type":"like","target":%q,"actor":%q}`, bob, uuid.New()), "actor"},
		"actor is the target":  {fmt.Sprintf(`{"type":"like","target":%q,"actor":%q}`, bob, bob), "target"},
		"malformed actor":      {fmt.Sprintf(`{"type":"like","target":%q,"actor":"bob"}`, bob), "actor"},
		"a time before 1970":   {fmt.Sprintf(`{"type":"like","target":%q,"occurred_at":"1969-01-01T00:00:00Z"}`, bob), "occurred_at"},
		"a time in the future": {fmt.Sprintf(`{"type":"like","target":%q,"occurred_at":"2026-03-02T00:00:00Z"}`, bob), "occurred_at"},
	} {
		if got := w.reply(w.post(single, bearer, c.body), http.StatusUnprocessableEntity); got.fields() != c.fields {
			t.Errorf("%s: names %q, want %q", name, got.fields(), c.fields)
		}
	}
}

func TestWhoMayPost(t *testing.T) {
	w := newWorld(t).run()
	ann, bob := w.newUser(), w.newUser()
	body := fmt.Sprintf(`{"type":"visit","target":%q}`, bob)
	for _, path := range []string{single, lines} {
		w.reply(w.post(path, "", body), http.StatusUnauthorized)
		w.reply(w.post(path, "rubbish", body), http.StatusUnauthorized)
	}
	w.tell(ann, events.UserErased, events.Erasure{By: ann.String()})
	w.reply(w.post(single, w.token(ann), body), http.StatusForbidden)
}

func TestContentTypes(t *testing.T) {
	w := newWorld(t).run()
	ann, bob := w.newUser(), w.newUser()
	body := fmt.Sprintf(`{"type":"visit","target":%q}`, bob)
	for _, c := range []struct {
		path, contentType string
		status            int
	}{
		{single, "application/json; charset=utf-8", 201},
		{single, "text/plain", 415},
		{single, "", 415},
		{single, "application/x-ndjson", 415},
		{lines, "application/x-ndjson; charset=utf-8", 200},
		{lines, "application/json", 415},
	} {
		if rec := w.send(c.path, w.token(ann), c.contentType, body); rec.Code != c.status {
			t.Errorf("%s as %q: %d, want %d", c.path, c.contentType, rec.Code, c.status)
		}
	}
	w.reply(w.post(single, w.token(ann), strings.Repeat(" ", 5000)+body), http.StatusRequestEntityTooLarge)
}

func TestUnknownPathsAndMethods(t *testing.T) {
	w := newWorld(t)
	w.reply(w.post("/v1/activity", "", ""), http.StatusNotFound)
	w.reply(w.post("/readyz", "", ""), http.StatusMethodNotAllowed)
}
