package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/cmd/history"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/projections"
)

// probePause is the pause between two looks at a list.
const probePause = 20 * time.Millisecond

// prober visits one other account, again and again, and waits until that one sees
// it.
type prober struct {
	house            *house
	visitor, visited *account
	visits           int // acknowledged
}

// probe returns once a visit that is posted now is in the list of visitors.
func (p *prober) probe(ctx context.Context) error {
	id := uuid.New()
	body, err := json.Marshal(map[string]any{"type": activity.Visit, "target": p.visited.id, "id": id})
	if err != nil {
		return err
	}
	if err := again(ctx, probePause, func() error { return p.post(ctx, id, body) }); err != nil {
		return fmt.Errorf("post a visit: %w", err)
	}
	p.visits++
	return again(ctx, probePause, func() error { return p.look(ctx) })
}

func (p *prober) post(ctx context.Context, id uuid.UUID, body []byte) error {
	call := p.house.recorder.Invoke(p.visitor.login, events.ActivityLog, history.Intent{ID: id, Type: events.ProfileVisited, Stream: p.visitor.id})
	got, err := p.visitor.ask(ctx, request{method: http.MethodPost, path: "/v1/activities", contentType: jsonType, body: body})
	var a answered
	if err == nil && got.status != http.StatusCreated && got.status != http.StatusOK {
		err = fmt.Errorf("answered with %v", got)
	}
	if err == nil {
		err = json.Unmarshal(got.body, &a)
	}
	if err != nil {
		call.Unknown("no good answer")
		return err
	}
	call.Acknowledge(events.Position{Partition: a.Partition, Sequence: a.Sequence})
	return nil
}

// look fails unless every visit so far is seen.
func (p *prober) look(ctx context.Context) error {
	got, err := p.visited.ask(ctx, request{method: http.MethodGet, path: "/v1/me/visitors"})
	if err != nil {
		return err
	}
	var list struct{ Items []struct{ Count int } }
	if got.status != http.StatusOK {
		return fmt.Errorf("the list of visitors: %v", got)
	}
	if err := json.Unmarshal(got.body, &list); err != nil {
		return fmt.Errorf("the list of visitors: %w", err)
	}
	if len(list.Items) != 1 || list.Items[0].Count < p.visits {
		return fmt.Errorf("the list of visitors shows %v after %d visits", list.Items, p.visits)
	}
	return nil
}

// fresh returns once a visit that is posted now is seen, and everything that
// follows a log has caught up with what was in it then. longest is what took the
// most time.
func (h *house) fresh(ctx context.Context) (longest string, err error) {
	type step struct {
		what string
		wait func(context.Context) error
	}
	steps := []step{
		{"a visit is seen", h.probes[0].probe}, {"read models", h.readModelsFollow}, {"witness", h.witness.catchUp},
	}
	for _, name := range serviceNames() {
		steps = append(steps, step{name, func(ctx context.Context) error { return h.ready(ctx, name) }})
	}
	most := time.Duration(-1)
	for _, s := range steps {
		began := time.Now()
		if err := s.wait(ctx); err != nil {
			return s.what, err
		}
		if took := time.Since(began); took > most {
			longest, most = s.what, took
		}
	}
	return longest, nil
}

// readModelsFollow returns once what is now in the activity log is in the read
// models, whichever instance has seen to it.
func (h *house) readModelsFollow(ctx context.Context) error {
	heads := make([]uint64, h.direct.Activity.Partitions())
	for p := range heads {
		if err := again(ctx, probePause, func() (err error) {
			heads[p], err = h.direct.Activity.Head(ctx, p)
			return err
		}); err != nil {
			return err
		}
	}
	for p, head := range heads {
		if err := again(ctx, probePause, func() error {
			at := subscription.Place{Group: projections.Group, Log: events.ActivityLog, Partition: p}
			there, err := h.direct.Ledgers[projectionsService].Load(ctx, at)
			if err == nil && there.Sequence < head {
				err = fmt.Errorf("the read models stand at %d of %d in %s/%d", there.Sequence, head, events.ActivityLog, p)
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// watch probes until the first context ends, and returns the longest time that a
// visit was not seen. The second one bounds what is under way then.
func (h *house) watch(until, ctx context.Context) (longest time.Duration, err error) {
	for until.Err() == nil {
		began := time.Now()
		if err := h.probes[1].probe(ctx); err != nil {
			return longest, err
		}
		longest = max(longest, time.Since(began))
		pause(until, probePause)
	}
	return longest, nil
}
