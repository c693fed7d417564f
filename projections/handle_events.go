package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/projections/notices"
	"github.com/meet5/backend/projections/views"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/run"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
)

const (
	// heartbeat is how often a stream says something, if only where it stands: so a
	// client knows that it is alive, and one that went away is found out.
	heartbeat = 15 * time.Second
	// minReconnect and maxReconnect bound the pause after which clients are told to
	// connect again. It is drawn by lot, so that they do not come all at once.
	minReconnect = time.Second
	maxReconnect = 5 * time.Second
	// fullRetry is what a client is told that finds no room.
	fullRetry = 5 * time.Second
	// lastEventID is the header in which a client says where it was.
	lastEventID = "Last-Event-ID"
)

// noticeBody is the data of an event of a stream.
type noticeBody struct {
	Type  notices.Kind `json:"type"`
	User  *who         `json:"user,omitempty"`
	At    string       `json:"at,omitempty"`
	Event *uuid.UUID   `json:"event,omitempty"`
}

// tell makes the hub that follows the log for those who are connected.
func (s *Service) tell() (*notices.Hub, error) {
	return notices.New(notices.Config{
		Log: s.deps.Activity, Follow: s.deps.Follow, Logger: s.deps.Logger, Clock: s.deps.Clock,
		Settled: func(ctx context.Context, partition int, sequence uint64) error {
			select {
			case <-s.known:
				return s.current.Load().sub.WaitFor(ctx, partition, sequence)
			case <-ctx.Done():
				return fmt.Errorf("%w: %w", errUnknown, ctx.Err())
			}
		},
		Bonds: func(ctx context.Context, pairs []views.Pair) ([]views.Bond, error) {
			return read(ctx, s, func(store views.Store) ([]views.Bond, error) { return store.Bonds(ctx, pairs) })
		},
	})
}

// myEvents serves GET /v1/me/events: what happens to the caller, as it happens,
// until the client goes away, its token ends or the server does. It is in parts,
// and each of them small, since thousands wait in it, and their stacks are most of
// what they take.
func (s *Service) myEvents(c echo.Context) error {
	stream, w, err := s.openEvents(c)
	if err != nil {
		return err
	}
	defer stream.Close()
	caller, _ := token.FromContext(c.Request().Context())
	// A token is believed no longer here than anywhere else.
	ended := time.NewTimer(caller.ExpiresAt.Sub(s.deps.Clock()))
	defer ended.Stop()
	w.begin()
	w.follow(c.Request().Context(), stream, ended.C)
	return nil
}

func (s *Service) openEvents(c echo.Context) (*notices.Stream, *eventWriter, error) {
	r := c.Request()
	caller, _ := token.FromContext(r.Context())
	kind := "events/" + caller.Subject.String()
	var after notices.Place
	if id := r.Header.Get(lastEventID); id != "" {
		if err := web.DecodeCursor(kind, id, &after); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", problem.Invalid(problem.Field(lastEventID, "is no id of an event of yours; leave it out to begin now")), err)
		}
		if after == nil {
			after = notices.Place{}
		}
	}
	stream, err := s.notices.Open(r.Context(), caller.Subject, after)
	switch {
	case err == nil:
		return stream, &eventWriter{c: c, kind: kind, flusher: http.NewResponseController(c.Response())}, nil
	case errors.Is(err, notices.ErrTooMany):
		return nil, nil, fmt.Errorf("%w: %w", problem.Unavailable(fmt.Sprintf("you have %d streams of events open; close one", notices.MaxStreamsOfOne), fullRetry), err)
	case errors.Is(err, notices.ErrFull):
		return nil, nil, fmt.Errorf("%w: %w", problem.Unavailable("too many streams of events are open here; try again a little later", fullRetry), err)
	}
	return nil, nil, fmt.Errorf("%w: %w", problem.Unavailable("events cannot be followed now; try again a little later", retryAfter), err)
}

// follow writes what a stream brings until it is cut, or there is nobody left to
// write to, or not any more.
func (w *eventWriter) follow(ctx context.Context, stream *notices.Stream, ended <-chan time.Time) {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for w.take(stream) {
		select {
		case <-stream.Ready():
		case <-beat.C:
		case <-ended:
			return
		case <-run.Draining(ctx):
			return
		case <-ctx.Done():
			return
		}
	}
}

// take writes what there is, and says whether there may be more.
func (w *eventWriter) take(stream *notices.Stream) bool {
	list, place, err := stream.Take()
	return err == nil && w.write(list, place) == nil
}

// eventWriter writes server-sent events.
type eventWriter struct {
	c       echo.Context
	kind    string
	flusher *http.ResponseController
	buffer  []byte
}

func (w *eventWriter) begin() {
	h := w.c.Response().Header()
	h.Set(echo.HeaderContentType, "text/event-stream")
	h.Set(echo.HeaderCacheControl, "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies that know it pass each event on at once
	w.c.Response().WriteHeader(http.StatusOK)
	pause := minReconnect + rand.N(maxReconnect-minReconnect) //nolint:gosec // nothing is protected by it
	w.buffer = strconv.AppendInt(append(w.buffer, "retry: "...), pause.Milliseconds(), 10)
	w.buffer = append(w.buffer, '\n')
}

// write writes the notices and then where the stream stands: an id without data
// is no event, but a client that resumes does so from there.
func (w *eventWriter) write(list []notices.Notice, place notices.Place) error {
	for i := range list {
		n := &list[i]
		body := noticeBody{Type: n.Kind}
		if n.Kind != notices.Reset {
			body.User, body.At, body.Event = &who{n.User}, show(n.At), &n.Event
		}
		if err := w.event(n.Kind, n.After, body); err != nil {
			return err
		}
	}
	if len(list) == 0 {
		w.id(place)
		w.buffer = append(w.buffer, '\n')
	}
	_, err := w.c.Response().Write(w.buffer)
	w.buffer = nil // ten thousand idle streams need not keep one each
	if err != nil {
		return err
	}
	return w.flusher.Flush()
}

func (w *eventWriter) event(kind notices.Kind, after notices.Place, body noticeBody) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	w.id(after)
	w.buffer = fmt.Appendf(w.buffer, "event: %s\ndata: %s\n\n", kind, data)
	return nil
}

func (w *eventWriter) id(place notices.Place) {
	w.buffer = fmt.Appendf(w.buffer, "id: %s\n", web.EncodeCursor(w.kind, place))
}
