// Package history serves the logs themselves to analysts: what there is, and the
// events as a stream in any format of package export.
//
// It promises that a stream is in the order of package replay, takes memory that
// does not grow with it, and is whole if it ends well: when the log cannot be
// read on, the connection is cut instead.
package history

import (
	"bufio"
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
	"github.com/meet5/backend/projections/export"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/token"
)

// flushEvery is after how many events what is written goes out.
const flushEvery = 256

// bufferSize is how many bytes are collected until they go out.
const bufferSize = 64 << 10

// maxParquet is how many exports in Parquet an instance writes at once: each keeps a
// row group, 30 MB at most. One more is told to come again after parquetRetry.
const (
	maxParquet   = 4
	parquetRetry = 10 * time.Second
)

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
	g.GET("/:log/events", server{logs: l, parquet: make(chan struct{}, maxParquet)}.events)
}

// server serves the events.
type server struct {
	logs    Logs
	parquet chan struct{} // holds one for each export in Parquet that is under way
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

func (s server) events(c echo.Context) error {
	var r log.Reader
	var names []string
	for _, candidate := range s.logs {
		names = append(names, candidate.Name())
		if candidate.Name() == c.Param("log") {
			r = candidate
		}
	}
	if r == nil {
		return problem.NotFound("there is no such log; there are " + strings.Join(names, ", "))
	}
	c.Response().Header().Add(echo.HeaderVary, echo.HeaderAccept)
	format, ok := negotiate(c.Request().Header.Values(echo.HeaderAccept))
	if !ok {
		return problem.NotAcceptable("events come as " + mediaTypes())
	}
	f, faults := filter(c)
	if len(faults) > 0 {
		return problem.Invalid(faults...)
	}
	if err := f.Validate(r); err != nil {
		field, message, _ := strings.Cut(err.Error(), ": ")
		return problem.Invalid(problem.Field(field, message))
	}
	if format == export.Parquet {
		select {
		case s.parquet <- struct{}{}:
			defer func() { <-s.parquet }()
		default:
			return problem.Unavailable(fmt.Sprintf("%d exports in Parquet are under way here; try again a little later, or take another format", maxParquet), parquetRetry)
		}
	}
	return stream(c, r, f, format)
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

func stream(c echo.Context, r log.Reader, f replay.Filter, format export.Format) error {
	to := &answer{to: c.Response(), format: format, log: r.Name()}
	buffer := bufio.NewWriterSize(to, bufferSize)
	w := export.NewWriter(format, buffer, r.Name())
	send := func() error {
		if err := buffer.Flush(); err != nil {
			return err
		}
		to.begin() // also if there is nothing to send yet
		to.to.Flush()
		return nil
	}
	n := 0
	for e, err := range replay.Events(c.Request().Context(), r, f) {
		if err != nil && !to.begun {
			return fmt.Errorf("%w: %w", problem.Unavailable("the log cannot be read now", time.Second), err)
		}
		if err != nil {
			return err
		}
		if err := w.Write(e); err != nil {
			return err
		}
		if n++; n%flushEvery == 0 {
			if err := send(); err != nil {
				return err
			}
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return send()
}

// answer begins the answer when the first of it is there.
type answer struct {
	to     *echo.Response
	format export.Format
	log    string
	begun  bool
}

func (a *answer) Write(b []byte) (int, error) {
	a.begin()
	return a.to.Write(b)
}

func (a *answer) begin() {
	if a.begun {
		return
	}
	a.begun = true
	h := a.to.Header()
	h.Set(echo.HeaderContentType, a.format.ContentType())
	h.Set(echo.HeaderContentDisposition, `attachment; filename="`+a.format.FileName(a.log)+`"`)
	a.to.WriteHeader(http.StatusOK)
}
