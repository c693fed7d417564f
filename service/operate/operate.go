// Package operate shows operators how a service's subscriptions stand, and lets
// them decide about what is parked: over HTTP, as metrics, and in the readiness
// of the service.
//
// It promises that
//   - whoever asks sees what the instance that answers knows of itself; what is
//     parked is the same at every instance that shares a ledger;
//   - an order to retry or drop is durable when it is acknowledged, and done by
//     whichever instance follows, within about a second;
//   - a subscription that stands still while its log goes on makes the service
//     unready within ten seconds, as does one that has not caught up since its
//     start;
//   - what is shown without a token names no hosts: faults are named by what was
//     tried, never by what went wrong.
package operate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/service/health"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
)

// retryAfter is what a client is told when the ledger does not answer.
const retryAfter = time.Second

// Source is a service's subscriptions as they are at present. They may change.
type Source func() []*subscription.Subscription

// Statuses is how all of them stand, by group, log and partition.
func (s Source) Statuses() []subscription.Status {
	var all []subscription.Status
	for _, sub := range s() {
		all = append(all, sub.Status()...)
	}
	slices.SortStableFunc(all, func(a, b subscription.Status) int {
		return a.Place.Compare(b.Place)
	})
	return all
}

// Check is a health check: each subscription has caught up once and none stands
// still. The detail is every partition, without what went wrong.
func (s Source) Check() health.Check {
	return func(context.Context) (any, error) {
		all := s.Statuses()
		var faults []error
		for i := range all {
			st := &all[i]
			switch {
			case st.Stalled:
				faults = append(faults, fmt.Errorf("%v stands still at %d of %d: could not %s: %s",
					st.Place, st.Position, st.Head, cmp.Or(st.Failure, "go on"), cmp.Or(st.Detail, "the handler does not return")))
			case !st.CaughtUp:
				faults = append(faults, fmt.Errorf("%v has not caught up yet: %d of %d", st.Place, st.Position, st.Head))
			}
			st.Detail = ""
		}
		return all, errors.Join(faults...)
	}
}

// Mount serves, for the role admin:
//
//	GET  /v1/admin/{service}/subscriptions
//	GET  /v1/admin/{service}/parked
//	GET  /v1/admin/{service}/parked/{id}
//	POST /v1/admin/{service}/parked/{id}/retry
//	POST /v1/admin/{service}/parked/{id}/drop
func (s Source) Mount(e *echo.Echo, service string, v *token.Verifier) {
	admin := e.Group("/v1/admin/"+service, token.Require(v, token.RoleAdmin))
	admin.GET("/subscriptions", s.list)
	admin.GET("/parked", s.listParked)
	admin.GET("/parked/:id", s.showParked)
	admin.POST("/parked/:id/retry", s.order(subscription.Retry))
	admin.POST("/parked/:id/drop", s.order(subscription.Drop))
}

func (s Source) list(c echo.Context) error { return web.List(c, s.Statuses(), "") }

// parkedItem is a parked event as it is shown.
type parkedItem struct {
	ID string `json:"id"`
	subscription.Parked
	// Waits is the ID of the first parked event of the key, behind which this one
	// waits; empty for the first itself.
	Waits string `json:"waits_behind,omitempty"`
}

// parked is everything that is parked, each once however many subscriptions share
// a ledger.
func (s Source) parked(ctx context.Context) ([]parkedItem, error) {
	var items []parkedItem
	for _, sub := range s() {
		for p := range sub.Log().Partitions() {
			list, err := sub.Ledger().Parked(ctx, subscription.Place{Group: sub.Group(), Log: sub.Log().Name(), Partition: p})
			if err != nil {
				return nil, unavailable(err)
			}
			first := make(map[[16]byte]string)
			for _, one := range list {
				item := parkedItem{ID: one.ID(), Parked: one, Waits: first[one.Key]}
				if item.Waits == "" {
					first[one.Key] = item.ID
				}
				items = append(items, item)
			}
		}
	}
	slices.SortStableFunc(items, func(a, b parkedItem) int {
		return a.Parked.Compare(b.Parked)
	})
	return items, nil
}

func unavailable(err error) error {
	return fmt.Errorf("%w: %w", problem.Unavailable("what is parked cannot be read right now", retryAfter), err)
}

// listParked answers with what is parked, by place and sequence: those of ?group=,
// ?log= and ?key= only, if they are given.
func (s Source) listParked(c echo.Context) error {
	limit, cursor, err := web.Page(c)
	if err != nil {
		return err
	}
	group, name, key := c.QueryParam("group"), c.QueryParam("log"), uuid.Nil
	if text := c.QueryParam("key"); text != "" {
		if key, err = uuid.Parse(text); err != nil {
			return problem.Invalid(problem.Field("key", "must be a UUID"))
		}
	}
	kind := "parked/" + c.Request().URL.Path
	after := ""
	if cursor != "" {
		if err := web.DecodeCursor(kind, cursor, &after); err != nil {
			return err
		}
	}
	items, err := s.parked(c.Request().Context())
	if err != nil {
		return err
	}
	items = slices.DeleteFunc(items, func(p parkedItem) bool {
		return group != "" && p.Group != group || name != "" && p.Log != name || key != uuid.Nil && p.Key != key
	})
	if after != "" {
		// An event that is parked no more has no place; the list then goes on with
		// the first that comes after it.
		var from subscription.Parked
		if from.Place, from.Sequence, err = subscription.ParseID(after); err != nil {
			return err // a cursor is of our own making
		}
		at := slices.IndexFunc(items, func(p parkedItem) bool { return p.Parked.Compare(from) > 0 })
		if at < 0 {
			at = len(items)
		}
		items = items[at:]
	}
	next := ""
	if len(items) > limit {
		items = items[:limit]
		next = web.EncodeCursor(kind, items[limit-1].ID)
	}
	return web.List(c, items, next)
}

// find returns the subscription of a path's parked event, and the event.
func (s Source) find(c echo.Context) (*subscription.Subscription, subscription.Parked, error) {
	notFound := problem.NotFound("no such event is parked; it may have been retried or dropped")
	var want subscription.Parked
	var err error
	if want.Place, want.Sequence, err = subscription.ParseID(c.Param("id")); err != nil {
		return nil, want, notFound
	}
	for _, sub := range s() {
		if sub.Group() != want.Group || sub.Log().Name() != want.Log {
			continue
		}
		list, err := sub.Ledger().Parked(c.Request().Context(), want.Place)
		if err != nil {
			return nil, want, unavailable(err)
		}
		for _, p := range list {
			if p.Sequence == want.Sequence {
				return sub, p, nil
			}
		}
	}
	return nil, want, notFound
}

// showParked answers with a parked event and, as a CloudEvent, what it says.
func (s Source) showParked(c echo.Context) error {
	sub, p, err := s.find(c)
	if err != nil {
		return err
	}
	answer := struct {
		parkedItem
		Content any `json:"content"`
	}{parkedItem: parkedItem{ID: p.ID(), Parked: p}}
	e, err := log.Get(c.Request().Context(), sub.Log(), events.Position{Partition: p.Partition, Sequence: p.Sequence})
	switch {
	case errors.Is(err, log.ErrNotFound), errors.Is(err, events.ErrCorrupt): // as harmed as it is
	case err != nil:
		return unavailable(err)
	default:
		answer.Content = json.RawMessage(events.AppendCloudEvent(nil, sub.Log().Name(), e))
	}
	return c.JSON(http.StatusOK, answer)
}

// order notes what is to be done, and answers 202 with the event.
func (s Source) order(o subscription.Order) echo.HandlerFunc {
	return func(c echo.Context) error {
		sub, p, err := s.find(c)
		if err != nil {
			return err
		}
		if o == subscription.Retry && p.Reason == "" {
			return problem.Conflict("it waits behind another event of its key; retry or drop that one, and this one follows")
		}
		switch err := sub.Ledger().Order(c.Request().Context(), p.Place, p.Sequence, o); {
		case errors.Is(err, subscription.ErrNotParked):
			return problem.NotFound("it is parked no more")
		case err != nil:
			return unavailable(err)
		}
		p.Order = o
		return c.JSON(http.StatusAccepted, parkedItem{ID: p.ID(), Parked: p})
	}
}
