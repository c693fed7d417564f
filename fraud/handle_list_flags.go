package fraud

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

// listFlags is GET /v1/moderation/flags.
func (s *Service) listFlags(c echo.Context) error {
	limit, cursor, err := web.Page(c)
	if err != nil {
		return err
	}
	q, err := readQuery(c.QueryParams(), caller(c))
	if err != nil {
		return err
	}
	q.Limit = limit
	return s.answerList(c, q, cursor)
}

// listFlagsOfUser is GET /internal/users/{id}/flags.
func (s *Service) listFlagsOfUser(c echo.Context) error {
	limit, cursor, err := web.Page(c)
	if err != nil {
		return err
	}
	user, err := pathID(c)
	if err != nil {
		return err
	}
	return s.answerList(c, flag.Query{User: user, Sort: flag.Newest, Limit: limit}, cursor)
}

func (s *Service) answerList(c echo.Context, q flag.Query, cursor string) error {
	page, next, err := s.page(c.Request().Context(), q, cursor)
	if err != nil {
		return err
	}
	return web.List(c, answerFlags(page), next)
}

// page is the flags after a cursor, as all that was acknowledged has left them, and the
// cursor of the following page, empty on the last one.
func (s *Service) page(ctx context.Context, q flag.Query, cursor string) (page []flag.Flag, next string, err error) {
	kind := cursorKind(q)
	if cursor != "" {
		q.After = new(flag.Place)
		if err := web.DecodeCursor(kind, cursor, q.After); err != nil {
			return nil, "", err
		}
	}
	if err := s.catchUp(ctx); err != nil {
		return nil, "", err
	}
	page, more := s.board.List(q)
	if more != nil {
		next = web.EncodeCursor(kind, more)
	}
	return page, next, nil
}

// cursorKind ties a cursor to what is listed and how.
func cursorKind(q flag.Query) string {
	assignee := "any"
	if q.Assignee != nil {
		assignee = q.Assignee.String()
	}
	return fmt.Sprintf("flags %s %s %s %d %s %d %d %s", q.States, q.Rule, q.User, q.MinScore, assignee,
		q.Since.UnixMicro(), q.Until.UnixMicro(), q.Sort)
}

// readQuery reads the filters and the order, and names every bad one.
func readQuery(values url.Values, me uuid.UUID) (flag.Query, error) {
	q, faults := parseQuery(values, me)
	if len(faults) > 0 {
		return flag.Query{}, problem.Invalid(faults...)
	}
	return q, nil
}

func parseQuery(values url.Values, me uuid.UUID) (q flag.Query, faults []problem.FieldError) {
	q.Sort = flag.Newest
	read := func(name string, into func(value string) (ok bool), must string) {
		if value := values.Get(name); value != "" && !into(value) {
			faults = append(faults, problem.Field(name, must))
		}
	}
	read("state", func(v string) bool {
		for name := range strings.SplitSeq(v, ",") {
			q.States = append(q.States, flag.State(name))
		}
		return !slices.ContainsFunc(q.States, func(s flag.State) bool { return !slices.Contains(flag.States(), s) })
	}, "must be one or more of "+list(flag.States())+", with commas between them")
	read("rule", func(v string) bool {
		q.Rule = v
		return rule.IsID(v)
	}, "must be a rule's id")
	read("user", readID(&q.User), "must be a UUID")
	read("min_score", func(v string) (ok bool) {
		var err error
		q.MinScore, err = strconv.Atoi(v)
		return err == nil && q.MinScore >= 0 && q.MinScore <= rule.MaxScore
	}, "must be a whole number from 0 to 100")
	read("assignee", func(v string) bool {
		q.Assignee = new(uuid.UUID)
		switch v {
		case "none":
			return true
		case "me":
			*q.Assignee = me
			return true
		}
		return readID(q.Assignee)(v)
	}, "must be a UUID, me or none")
	const must = "must be an RFC 3339 time, as in 2026-01-31T12:00:00.000Z"
	read("since", readTime(&q.Since), must)
	read("until", readTime(&q.Until), must)
	read("sort", func(v string) bool {
		q.Sort = flag.Sort(v)
		return slices.Contains(flag.Sorts(), q.Sort)
	}, "must be one of "+list(flag.Sorts()))
	return q, faults
}

func readID(into *uuid.UUID) func(string) bool {
	return func(v string) (ok bool) {
		id, err := uuid.Parse(v)
		*into = id
		return err == nil
	}
}

func readTime(into *time.Time) func(string) bool {
	return func(v string) (ok bool) {
		t, err := time.Parse(time.RFC3339Nano, v)
		*into = t.UTC()
		return err == nil
	}
}

func list[T ~string](words []T) string {
	s := make([]string, len(words))
	for i := range words {
		s[i] = string(words[i])
	}
	return strings.Join(s, ", ")
}
