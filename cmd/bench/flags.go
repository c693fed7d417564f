package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// flags is how long after its 200 an activity that comes up to a rule's threshold shows
// as a flag among those of the moderators, in milliseconds, while the whole backend works
// at half of its full load. The load only visits; who likes is flagged, once.
var flags = Work{
	Name:  "flags",
	Ours:  "from a 200 until the flag is in the moderators' list over HTTP, the whole backend on MongoDB and RabbitMQ at half load",
	Limit: "",
	Figures: []Figure{
		{Name: "full load", Unit: "requests/s"},
		{Name: "load while watching", Unit: "requests/s"},
		{Name: "p50 of the 201", Unit: "ms"},
		{Name: "p99 of the 201", Unit: "ms"},
		{Name: "p50", Unit: "ms"},
		{Name: "p99", Unit: "ms", Target: Target{AtMost: 100}},
	},
	Mongo: true, AMQP: true,
	open: func(ctx context.Context, s *site) (turn, error) {
		w, err := newWhole(ctx, s)
		if err != nil {
			return nil, err
		}
		f := &flagged{whole: w, admin: &member{client: w.members[0].client, url: w.url}, service: w.members[0]}
		if err := f.prepare(ctx); err != nil {
			return nil, err
		}
		full, err := w.fullLoad(ctx, s.For)
		if err != nil {
			return nil, fmt.Errorf("find the full load: %w", err)
		}
		return func(ctx context.Context) ([]Pair, error) {
			turn := freshnessTurns * s.For
			if f.innocent, err = w.people(ctx, int(turn/watchEvery)+2); err != nil {
				return nil, err
			}
			return w.watchAtHalf(ctx, full, turn, f.seeFlag)
		}, nil
	},
}

// flagged has people flagged, one after the other.
type flagged struct {
	*whole
	admin, service *member
	// innocent are those who have not been flagged yet.
	innocent []uuid.UUID
}

// benchRule flags whoever likes somebody.
const benchRule = `{"id":"bench-like","title":"Liked","events":["like"],"window":{"since_first_event":"1d"},"aggregate":"count","threshold":1,"score":1}`

// prepare has the rule run, and gives a member the role of those who may speak for
// others.
func (f *flagged) prepare(ctx context.Context) error {
	if err := f.admin.signIn(ctx, adminEmail, password); err != nil {
		return err
	}
	if err := f.admin.send(ctx, http.MethodPost, "/v1/admin/users/"+f.service.id.String()+"/roles", map[string][]string{"roles": {"service"}}, http.StatusOK, nil); err != nil {
		return err
	}
	if err := f.service.signIn(ctx, "member0", password); err != nil {
		return err
	}
	const path = "/v1/moderation/rules/bench-like"
	if err := f.admin.send(ctx, http.MethodPut, path+"?why=bench", json.RawMessage(benchRule), http.StatusCreated, nil); err != nil {
		return err
	}
	if err := f.admin.send(ctx, http.MethodPost, path+"/mode", map[string]any{"mode": "live", "force": true, "why": "bench"}, http.StatusOK, nil); err != nil {
		return err
	}
	return f.Fraud.CatchUp(ctx)
}

// seeFlag has somebody like another and asks for their flags until there is one.
func (f *flagged) seeFlag(ctx context.Context) (time.Duration, error) {
	who := f.innocent[0]
	f.innocent = f.innocent[1:]
	line := fmt.Appendf(nil, "{\"type\":\"like\",\"actor\":%q,\"target\":%q}\n", who, f.visited[len(f.innocent)%len(f.visited)])
	answer, err := f.service.sendBytes(ctx, http.MethodPost, "/v1/activities/batch", "application/x-ndjson", line, http.StatusOK)
	if err != nil {
		return 0, err
	}
	var written struct {
		Status int `json:"status"`
	}
	if err := json.Unmarshal(answer, &written); err != nil {
		return 0, fmt.Errorf("like: %s: %w", answer, err)
	}
	if written.Status != http.StatusCreated {
		return 0, fmt.Errorf("like: %s", answer)
	}
	for begin := time.Now(); ; {
		if err := pause(ctx, pollEvery); err != nil {
			return 0, err
		}
		var page struct {
			Items []json.RawMessage `json:"items"`
		}
		err := f.admin.send(ctx, http.MethodGet, "/v1/moderation/flags?limit=1&rule=bench-like&user="+who.String(), nil, http.StatusOK, &page)
		took := time.Since(begin)
		switch {
		case err != nil:
			return 0, err
		case len(page.Items) > 0:
			return took, nil
		case took > patience:
			return 0, fmt.Errorf("%w after %v", errInvisible, took)
		}
	}
}
