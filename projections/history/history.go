// Package history serves the logs themselves to analysts: what there is, and the
// events as a stream of CloudEvents.
//
// It promises that a stream is in the order of package replay, takes memory that
// does not grow with it, and is whole if it ends well: when the log cannot be
// read on, the connection is cut instead.
package history

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/replay"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/token"
)

// ndjson is the media type of a stream: one CloudEvent a line.
const ndjson = "application/x-ndjson"

// flushEvery is after how many events what is written goes out.
const flushEvery = 256

// timeLayout is RFC 3339 in UTC, always with microseconds.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// maxTypes is how many event types a filter may name.
const maxTypes = 64

// Logs are the logs that are served, by name.
type Logs []log.Reader

// Mount adds the routes; all need the role analyst.
func (l Logs) Mount(e *echo.Echo, v *token.Verifier) {
	g := e.Group("/v1/logs", token.Require(v, token.RoleAnalyst))
	g.GET("", l.list)
	g.GET("/:log/events", l.events)
}

// summary is what is known of one log.
type summary struct {
	Name       string   `json:"name"`
	Partitions int      `json:"partitions"`
	Events     uint64   `json:"events"`
	Heads      []uint64 `json:"heads"`
	FirstAt    *string  `json:"first_at"` // recorded; null if the log is empty
	LastAt     *string  `json:"last_at"`
}

func (l Logs) list(c echo.Context) error {
	items := make([]summary, 0, len(l))
	for _, r := range l {
		s, err := summarise(c.Request().Context(), r)
		if err != nil {
			return fmt.Errorf("%w: %w", problem.Unavailable("the log "+r.Name()+" cannot be read now", time.Second), err)
		}
		items = append(items, s)
	}
	return c.JSON(http.StatusOK, map[string]any{"items": items})
}

func summarise(ctx context.Context, r log.Reader) (summary, error) {
	s := summary{Name: r.Name(), Partitions: r.Partitions(), Heads: make([]uint64, r.Partitions())}
	var from, to time.Time
	for p := range s.Heads {
		head, err := r.Head(ctx, p)
		if err != nil {
			return s, err
		}
		s.Heads[p] = head
		s.Events += head
		if head == 0 {
			continue
		}
		first, err := log.Get(ctx, r, events.Position{Partition: p, Sequence: 1})
		if err != nil {
			return s, err
		}
		last, err := log.Get(ctx, r, events.Position{Partition: p, Sequence: head})
		if err != nil {
			return s, err
		}
		if from.IsZero() || first.RecordedAt.Before(from) {
			from = first.RecordedAt
		}
		if last.RecordedAt.After(to) {
			to = last.RecordedAt
		}
	}
	if s.Events > 0 {
		first, last := from.Format(timeLayout), to.Format(timeLayout)
		s.FirstAt, s.LastAt = &first, &last
	}
	return s, nil
}

func (l Logs) events(c echo.Context) error {
	var r log.Reader
	var names []string
	for _, candidate := range l {
		names = append(names, candidate.Name())
		if candidate.Name() == c.Param("log") {
			r = candidate
		}
	}
	if r == nil {
		return problem.NotFound("there is no such log; there are " + strings.Join(names, ", "))
	}
	if accept := c.Request().Header.Get(echo.HeaderAccept); !accepts(accept) {
		return problem.NotAcceptable("events come as " + ndjson)
	}
	f, faults := filter(c)
	if len(faults) > 0 {
		return problem.Invalid(faults...)
	}
	if err := f.Validate(r); err != nil {
		field, message, _ := strings.Cut(err.Error(), ": ")
		return problem.Invalid(problem.Field(field, message))
	}
	return stream(c, r, f)
}

func accepts(header string) bool {
	if header == "" {
		return true
	}
	for _, part := range strings.Split(header, ",") {
		switch media, _, _ := strings.Cut(strings.TrimSpace(part), ";"); strings.ToLower(strings.TrimSpace(media)) {
		case "*/*", "application/*", ndjson:
			return true
		}
	}
	return false
}

// filter reads the query's parameters and reports all faults at once.
func filter(c echo.Context) (f replay.Filter, faults []problem.FieldError) {
	fault := func(field, message string) { faults = append(faults, problem.Field(field, message)) }
	query := c.QueryParams()
	one := func(field string, read func(string) error, want string) {
		if v := query.Get(field); v != "" {
			if err := read(v); err != nil {
				fault(field, "must be "+want)
			}
		}
	}
	for _, v := range query["type"] {
		f.Types = append(f.Types, strings.Split(v, ",")...)
	}
	if len(f.Types) > maxTypes {
		fault("type", fmt.Sprintf("names %d types, at most %d are allowed", len(f.Types), maxTypes))
	}
	one("actor", func(v string) (err error) { f.Actor, err = uuid.Parse(v); return err }, "a UUID")
	one("target", func(v string) (err error) { f.Target, err = uuid.Parse(v); return err }, "a UUID")
	one("since", func(v string) (err error) { f.Since, err = time.Parse(time.RFC3339, v); return err }, "a time as of RFC 3339")
	one("until", func(v string) (err error) { f.Until, err = time.Parse(time.RFC3339, v); return err }, "a time as of RFC 3339")
	one("partition", func(v string) error {
		p, err := strconv.Atoi(v)
		f.Partition = &p
		return err
	}, "a whole number")
	one("after", func(v string) (err error) { f.After, err = strconv.ParseUint(v, 10, 64); return err }, "a sequence, a whole number")
	one("limit", func(v string) error {
		n, err := strconv.Atoi(v)
		if f.Limit = n; err == nil && n < 1 {
			err = errors.New("too small")
		}
		return err
	}, "a whole number of at least 1")
	return f, faults
}

func stream(c echo.Context, r log.Reader, f replay.Filter) error {
	var buffer []byte
	started, n := false, 0
	send := func() error {
		if !started {
			c.Response().Header().Set(echo.HeaderContentType, ndjson)
			c.Response().WriteHeader(http.StatusOK)
			started = true
		}
		if _, err := c.Response().Write(buffer); err != nil {
			return err
		}
		buffer = buffer[:0]
		c.Response().Flush()
		return nil
	}
	for e, err := range replay.Events(c.Request().Context(), r, f) {
		if err != nil && !started {
			return fmt.Errorf("%w: %w", problem.Unavailable("the log cannot be read now", time.Second), err)
		}
		if err != nil {
			return err
		}
		buffer = append(events.AppendCloudEvent(buffer, r.Name(), e), '\n')
		if n++; n%flushEvery == 0 {
			if err := send(); err != nil {
				return err
			}
		}
	}
	return send()
}
