package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/projections/views"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
)

// timeLayout is RFC 3339 in UTC, always with microseconds.
const timeLayout = "2006-01-02T15:04:05.000000Z"

func show(t time.Time) string { return t.UTC().Format(timeLayout) }

// who is another user in a list. The gateway adds the names.
type who struct {
	ID uuid.UUID `json:"id"`
}

type visitItem struct {
	User    who    `json:"user"`
	Count   int64  `json:"count"`
	FirstAt string `json:"first_at"`
	LastAt  string `json:"last_at"`
}

type likeItem struct {
	User who    `json:"user"`
	At   string `json:"at"`
}

func listVisits(name string, query func(context.Context, uuid.UUID, views.Page) ([]views.Visit, error)) echo.HandlerFunc {
	return list(name, query, views.Visit.Mark, func(v views.Visit) visitItem {
		return visitItem{User: who{v.User}, Count: v.Count, FirstAt: show(v.FirstAt), LastAt: show(v.LastAt)}
	})
}

func listLikes(name string, query func(context.Context, uuid.UUID, views.Page) ([]views.Like, error)) echo.HandlerFunc {
	return list(name, query, views.Like.Mark, func(l views.Like) likeItem {
		return likeItem{User: who{l.User}, At: show(l.At)}
	})
}

// list answers with one page of the caller's own list. It asks for one item more
// than it shows, to know whether there is a next page.
func list[V, I any](name string, query func(context.Context, uuid.UUID, views.Page) ([]V, error), mark func(V) views.Mark, item func(V) I) echo.HandlerFunc {
	return func(c echo.Context) error {
		ctx := c.Request().Context()
		caller, _ := token.FromContext(ctx)
		kind := name + "/" + caller.Subject.String()
		limit, cursor, err := web.Page(c)
		if err != nil {
			return err
		}
		page := views.Page{Limit: limit + 1}
		if cursor != "" {
			if err := web.DecodeCursor(kind, cursor, &page.After); err != nil {
				return err
			}
		}
		found, err := query(ctx, caller.Subject, page)
		if err != nil {
			return unavailable(err)
		}
		next := ""
		if len(found) > limit {
			found = found[:limit]
			next = web.EncodeCursor(kind, mark(found[limit-1]))
		}
		items := make([]I, len(found))
		for i, v := range found {
			items[i] = item(v)
		}
		return web.List(c, items, next)
	}
}

// unavailable makes a problem of a store that does not answer.
func unavailable(err error) error {
	if errors.Is(err, views.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", problem.Unavailable("the lists cannot be read now; try again a little later", retryAfter), err)
	}
	return err
}
