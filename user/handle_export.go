package user

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/user/account"
)

const exportPath = "/v1/me/export"

const (
	// exportTimeout bounds one export: a partition of the activity log is read whole.
	exportTimeout = 10 * time.Minute
	// maxExports is how many may be under way in an instance, each of another user.
	maxExports = 4
	// exportRetry is what one too many is told.
	exportRetry = 10 * time.Second
	// exportFlush is how many lines are sent together.
	exportFlush = 500
)

// Lines of an export. Each has a kind, so that a reader can skip what it does not
// know.
type (
	exportedAccount struct {
		Kind string `json:"kind"` // account
		accountAnswer
	}
	// exportedChange is an event of the account: what it was called, and what it
	// said.
	exportedChange struct {
		Kind    string           `json:"kind"` // change
		Type    string           `json:"type"`
		At      stamp            `json:"at"`
		Profile *events.Personal `json:"profile,omitempty"`
		Roles   []string         `json:"roles,omitempty"`
		Flag    string           `json:"flag,omitempty"`
		Rule    string           `json:"rule,omitempty"`
	}
	exportedSession struct {
		Kind string `json:"kind"` // session
		ownSession
	}
	exportedActivity struct {
		Kind       string    `json:"kind"` // activity
		ID         uuid.UUID `json:"id"`
		Type       string    `json:"type"`
		Target     uuid.UUID `json:"target"`
		OccurredAt stamp     `json:"occurred_at"`
		RecordedAt stamp     `json:"recorded_at"`
	}
	// exportedEnd is the last line: without it the file was cut off.
	exportedEnd struct {
		Kind  string `json:"kind"`  // end
		Lines int    `json:"lines"` // before this one
	}
)

// handleExport serves GET /v1/me/export: what is kept of the caller, one JSON object
// a line: the account, its changes, its sessions, and what its owner did. What others
// did is theirs, and what moderators say of an open case is not told.
func (s *Service) handleExport(c echo.Context) error {
	ctx := c.Request().Context()
	caller, _ := token.FromContext(ctx)
	end, err := s.exports.begin(caller.Subject)
	if err != nil {
		return err
	}
	defer end()
	stream, err := log.ReadStream(ctx, s.log, caller.Subject)
	if err != nil {
		return unreadable(err)
	}
	a, err := account.Fold(stream)
	if err != nil {
		return err
	}
	if a.Erased {
		return noSuchUser()
	}
	// Before the first line, so that what cannot be read is a problem and not a file.
	personal, key, err := s.open(ctx, a)
	if errors.Is(err, errKeyMissing) { // it is most likely being erased
		return errors.Join(problem.Unavailable("the account cannot be read right now", retryAfter), err)
	}
	if err != nil {
		return err
	}
	sessions, err := s.vault.Sessions(ctx, a.ID, s.now())
	if err != nil {
		return err
	}
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, "application/x-ndjson")
	h.Set("Content-Disposition", `attachment; filename="meet5-export.ndjson"`)
	h.Set("Cache-Control", "no-store")
	c.Response().WriteHeader(http.StatusOK)
	e := &export{to: c.Response(), encoder: json.NewEncoder(c.Response())}
	e.line(exportedAccount{"account", answerAccount(opened{a, personal})})
	for _, event := range stream {
		if err := e.change(key, event); err != nil {
			return err
		}
	}
	for _, o := range sessions {
		e.line(exportedSession{"session", answerOwnSession(o, caller.Session)})
	}
	if err := s.exportActivities(ctx, e, a.ID); err != nil {
		return err
	}
	e.line(exportedEnd{"end", e.lines})
	return e.err
}

// export writes lines until one cannot be written.
type export struct {
	to      *echo.Response
	encoder *json.Encoder
	lines   int
	err     error
}

func (e *export) line(v any) {
	if e.err != nil {
		return
	}
	e.lines++
	if e.err = e.encoder.Encode(v); e.lines%exportFlush == 0 {
		e.to.Flush()
	}
}

func (e *export) change(key vault.Key, event events.Recorded) error {
	line := exportedChange{Kind: "change", Type: event.Type, At: stamp(event.OccurredAt)}
	var sealed []byte
	switch event.Type {
	case events.UserRegistered:
		r, err := events.Unmarshal[events.Registration](event)
		if err != nil {
			return err
		}
		sealed, line.Roles = r.Sealed, r.Roles
	case events.UserProfileChanged:
		p, err := events.Unmarshal[events.ProfileChange](event)
		if err != nil {
			return err
		}
		sealed = p.Sealed
	case events.UserRolesChanged:
		r, err := events.Unmarshal[events.Roles](event)
		if err != nil {
			return err
		}
		line.Roles = r.Roles
	case events.UserMarkedFraudulent, events.UserCleared:
		m, err := events.Unmarshal[events.Standing](event)
		if err != nil {
			return err
		}
		line.Flag, line.Rule = m.Flag, m.Rule
	}
	if sealed != nil {
		p, err := unseal(key, event.Stream, account.Sealed{EventType: event.Type, Bytes: sealed})
		if err != nil {
			return err
		}
		line.Profile = &p
	}
	e.line(line)
	return nil
}

// exportActivities writes what a user did, in the order in which it was recorded.
func (s *Service) exportActivities(ctx context.Context, e *export, user uuid.UUID) error {
	kinds := map[string]string{events.ProfileVisited: "visit", events.ProfileLiked: "like", events.LikeWithdrawn: "unlike"}
	partition := events.PartitionOf(user, s.activity.Partitions())
	for event, err := range log.Events(ctx, s.activity, partition, 0) {
		if err != nil {
			return unreadable(err)
		}
		kind := kinds[event.Type]
		if event.Stream != user || kind == "" {
			continue
		}
		did, err := events.Unmarshal[events.Activity](event)
		if err != nil {
			return err
		}
		e.line(exportedActivity{"activity", event.ID, kind, did.Target, stamp(event.OccurredAt), stamp(event.RecordedAt)})
		if e.err != nil {
			return e.err // the client is gone: do not read on
		}
	}
	return nil
}
