package projections

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/projections/views"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
)

type stats struct {
	VisitsReceived int64 `json:"visits_received"`
	UniqueVisitors int64 `json:"unique_visitors"`
	LikesReceived  int64 `json:"likes_received"`
	LikesGiven     int64 `json:"likes_given"`
	Matches        int64 `json:"matches"`
}

func (s *Service) myStats(c echo.Context) error {
	caller, _ := token.FromContext(c.Request().Context())
	return s.answerStats(c, caller.Subject)
}

func (s *Service) userStats(c echo.Context) error {
	id, err := userParam(c)
	if err != nil {
		return err
	}
	return s.answerStats(c, id)
}

func (s *Service) answerStats(c echo.Context, user uuid.UUID) error {
	ctx := c.Request().Context()
	n, err := read(ctx, s, func(store views.Store) (views.Stats, error) { return store.Stats(ctx, user) })
	if err != nil {
		return unavailable(err)
	}
	return c.JSON(http.StatusOK, stats{
		VisitsReceived: n.VisitsReceived, UniqueVisitors: n.UniqueVisitors,
		LikesReceived: n.LikesReceived, LikesGiven: n.LikesGiven, Matches: n.Matches,
	})
}

func userParam(c echo.Context) (uuid.UUID, error) {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return id, problem.Invalid(problem.Field("id", "must be a UUID"))
	}
	return id, nil
}

type activityItem struct {
	ID         uuid.UUID `json:"id"`
	Type       string    `json:"type"`
	Target     uuid.UUID `json:"target"`
	OccurredAt string    `json:"occurred_at"`
	RecordedAt string    `json:"recorded_at"`
	Partition  int       `json:"partition"`
	Sequence   uint64    `json:"sequence"`
}

// userActivities answers with what a user did latest, newest first. It looks
// through the tail of the user's partition only, and says with complete whether
// that reached back far enough.
func (s *Service) userActivities(c echo.Context) error {
	user, err := userParam(c)
	if err != nil {
		return err
	}
	limit, _, err := web.Page(c)
	if err != nil {
		return err
	}
	items, complete, err := s.latest(c.Request().Context(), user, limit)
	if err != nil {
		return fmt.Errorf("%w: %w", problem.Unavailable("the activity log cannot be read now; try again a little later", retryAfter), err)
	}
	return c.JSON(http.StatusOK, map[string]any{"items": items, "complete": complete})
}

func (s *Service) latest(ctx context.Context, user uuid.UUID, limit int) (items []activityItem, complete bool, err error) {
	names := map[string]string{events.ProfileVisited: "visit", events.ProfileLiked: "like", events.LikeWithdrawn: "unlike"}
	partition := events.PartitionOf(user, s.deps.Activity.Partitions())
	head, err := s.deps.Activity.Head(ctx, partition)
	if err != nil {
		return nil, false, err
	}
	after := uint64(0)
	if head > maxScan {
		after = head - maxScan
	}
	items = []activityItem{}
	var faults []error
	for e, err := range log.Events(ctx, s.deps.Activity, partition, after) {
		if err != nil {
			return nil, false, err
		}
		name, isActivity := names[e.Type]
		if e.Stream != user || !isActivity {
			continue
		}
		a, err := events.ParseActivity(e.Data)
		if err != nil {
			faults = append(faults, err) // the others still say something
			continue
		}
		items = append(items, activityItem{e.ID, name, a.Target, show(e.OccurredAt), show(e.RecordedAt), e.Partition, e.Sequence})
	}
	if len(faults) > 0 {
		s.deps.Logger.Error("activities of a user cannot be read", "user", user, "error", errors.Join(faults...))
	}
	complete = after == 0 || len(items) >= limit
	items = items[max(0, len(items)-limit):]
	slices.Reverse(items)
	return items, complete, nil
}
