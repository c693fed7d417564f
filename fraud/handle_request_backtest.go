package fraud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/backtest"
	"github.com/meet5/backend/fraud/queue"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

const (
	// maxListedSample bounds the sample of a backtest that is asked for over HTTP.
	maxListedSample = 100
	// queueRetry is when it is worth asking again while the queue is full.
	queueRetry = 30 * time.Second
)

// rulesType is the media type of a body that is rules alone.
const rulesType = "application/yaml"

type backtestBody struct {
	ID uuid.UUID `json:"id"`
	// Rules are rules, or IDs of rules that the log has.
	Rules      []json.RawMessage `json:"rules"`
	Rule       json.RawMessage   `json:"rule"`
	Since      *time.Time        `json:"since"`
	Until      *time.Time        `json:"until"`
	Labels     backtest.Against  `json:"labels"`
	Sample     *int              `json:"sample"`
	Curve      bool              `json:"curve"`
	Thresholds []int             `json:"thresholds"`
}

// wanted is a backtest that is asked for.
type wanted struct {
	id    uuid.UUID // of the client's making; nil if it gave none
	asked events.BacktestRequest
	rules []rule.Rule
	// named are those of the rules that were given by their IDs alone.
	named map[string]bool
}

// requestBacktest is POST /v1/backtests.
func (s *Service) requestBacktest(c echo.Context) error {
	want, err := s.readBacktest(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	if want.id != uuid.Nil {
		if b, ok, err := s.askedBefore(ctx, want); err != nil || ok {
			return s.answerRequest(c, http.StatusOK, b, err)
		}
	}
	rules := want.rules
	if len(rules) == 0 {
		rules = s.rulesThatRun()
	}
	switch {
	case len(rules) == 0:
		return problem.Invalid(problem.Field("rules", "is missing, and there is no rule that runs"))
	case len(rules) > backtest.MaxRules:
		return problem.Invalid(problem.Field("rules", fmt.Sprintf("are %d rules, at most %d are allowed", len(rules), backtest.MaxRules)))
	}
	if err := rule.CheckCost(rules); err != nil {
		return problem.Invalid(problem.Field("rules", err.Error()))
	}
	if s.backtests.Waiting() >= queue.MaxWaiting {
		return problem.Unavailable(fmt.Sprintf("%d backtests wait already, which is the most; ask again when one has been worked on, or cancel one",
			queue.MaxWaiting), queueRetry)
	}
	e, err := s.request(want.id, want.asked, rules)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	_, err = s.deps.Log.Append(ctx, e)
	if _, taken := errors.AsType[*log.ConflictError](err); taken && want.id != uuid.Nil {
		// The same request came in between.
		if b, ok, err := s.askedBefore(ctx, want); err != nil || ok {
			return s.answerRequest(c, http.StatusOK, b, err)
		}
	}
	if err != nil {
		return outOfReach(err)
	}
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	b, _, ok := s.backtests.Get(e.Stream)
	if !ok {
		return problem.NotFound("the backtest was removed at once")
	}
	return s.answerRequest(c, http.StatusAccepted, b, nil)
}

// answerRequest answers who asked for a backtest, unless there is an error.
func (s *Service) answerRequest(c echo.Context, status int, b queue.Backtest, err error) error {
	if err != nil {
		return err
	}
	_, before, _ := s.backtests.Get(b.ID)
	c.Response().Header().Set(echo.HeaderLocation, "/v1/backtests/"+b.ID.String())
	return c.JSON(status, s.answerBacktest(b, before, nil))
}

// request is the event that asks for a backtest.
func (s *Service) request(id uuid.UUID, asked events.BacktestRequest, rules []rule.Rule) (events.Event, error) {
	if id == uuid.Nil {
		id = s.deps.NewID()
	}
	for _, r := range rules {
		text, err := ruleText(r)
		if err != nil {
			return events.Event{}, err
		}
		asked.Rules = append(asked.Rules, text)
	}
	data, err := json.Marshal(asked)
	if err != nil {
		return events.Event{}, fmt.Errorf("ask for a backtest: %w", err)
	}
	if len(data) > events.MaxData {
		return events.Event{}, problem.Invalid(problem.Field("rules", fmt.Sprintf("have %d bytes together, at most %d are allowed", len(data), events.MaxData)))
	}
	return events.Event{
		ID: s.deps.NewID(), Type: events.BacktestRequested, Stream: id, Version: 1,
		OccurredAt: s.deps.Clock(), Data: data,
	}, nil
}

// ruleText is a rule in a request, without its cases, which say nothing of history.
func ruleText(r rule.Rule) (json.RawMessage, error) {
	r.Cases = nil
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("rule %s: %w", r.ID, err)
	}
	return text, nil
}

// readBacktest reads what is asked for, and names every fault.
func (s *Service) readBacktest(c echo.Context) (wanted, error) {
	want := wanted{asked: events.BacktestRequest{By: caller(c), Against: string(backtest.Both), Sample: backtest.DefaultSample}}
	if web.RequireContentType(c, rulesType) == nil {
		text, err := web.ReadBody(c)
		if err != nil {
			return want, err
		}
		var faults bodyFaults
		want.rules, faults = parseRules(text, 0, "", place{})
		return want, faults.problem()
	}
	if web.RequireContentType(c, echo.MIMEApplicationJSON) != nil {
		return want, problem.UnsupportedMediaType("send the body as Content-Type: application/json, or rules alone as application/yaml")
	}
	text, err := web.ReadBody(c)
	if err != nil {
		return want, err
	}
	var body backtestBody
	if err := web.DecodeStrict(text, &body); err != nil {
		return want, err
	}
	want.id = body.ID
	faults := body.check(&want.asked)
	bad := s.readRules(c.Request().Context(), text, body, &want)
	if bad.err != nil {
		return want, bad.err
	}
	return want, append(faults, bad.faults...).problem()
}

// bodyFaults are what is wrong with a body.
type bodyFaults []problem.FieldError

func (f bodyFaults) problem() error {
	if len(f) == 0 {
		return nil
	}
	return problem.Invalid(f...)
}

// check checks all but the rules, and puts it into the request.
func (b *backtestBody) check(asked *events.BacktestRequest) (faults bodyFaults) {
	fail := func(field, message string) { faults = append(faults, problem.Field(field, message)) }
	asked.Since, asked.Until, asked.Curve, asked.Thresholds = b.Since, b.Until, b.Curve, b.Thresholds
	if b.Since != nil && b.Until != nil && !b.Since.Before(*b.Until) {
		fail("until", "must be later than since")
	}
	if b.Labels != "" {
		asked.Against = string(b.Labels)
		if !slices.Contains(backtest.Againsts(), b.Labels) {
			fail("labels", "must be one of "+list(backtest.Againsts()))
		}
	}
	if b.Sample != nil {
		asked.Sample = *b.Sample
		if asked.Sample < 0 || asked.Sample > maxListedSample {
			fail("sample", "must be from 0 to "+strconv.Itoa(maxListedSample))
		}
	}
	if err := backtest.CheckThresholds(b.Thresholds); err != nil {
		fail("thresholds", err.Error())
	} else if len(b.Thresholds) > 0 && !b.Curve {
		fail("thresholds", "are those of a curve; set curve to true, too")
	}
	return faults
}

// foundFaults are faults of rules, or why they could not be looked for.
type foundFaults struct {
	faults bodyFaults
	err    error
}

// readRules reads the rules of a body into want. Places in them are told as in the
// body.
func (s *Service) readRules(ctx context.Context, text []byte, body backtestBody, want *wanted) (found foundFaults) {
	given := body.Rules
	field := func(i int) string { return fmt.Sprintf("rules[%d]", i) }
	if body.Rule != nil {
		if body.Rules != nil {
			found.faults = append(found.faults, problem.Field("rule", "is there beside rules; keep one"))
			return found
		}
		given, field = []json.RawMessage{body.Rule}, func(int) string { return "rule" }
	}
	if given != nil && len(given) == 0 {
		found.faults = append(found.faults, problem.Field("rules", "lists no rule; leave it out to try all that run"))
	}
	if len(given) > backtest.MaxRules {
		found.faults = append(found.faults, problem.Field("rules", fmt.Sprintf("are %d rules, at most %d are allowed", len(given), backtest.MaxRules)))
		return found
	}
	caughtUp := false
	want.named = make(map[string]bool)
	seen := make(map[string]bool)
	from := 0
	for i, raw := range given {
		at := max(0, bytes.Index(text[from:], raw)) + from
		from = at + len(raw)
		var id string
		if json.Unmarshal(raw, &id) != nil {
			parsed, bad := parseRules(raw, 1, field(i), placeOf(text[:at]))
			found.faults = append(found.faults, bad...)
			if len(parsed) != 1 {
				continue
			}
			want.rules = append(want.rules, parsed[0])
		} else {
			if !caughtUp {
				if found.err = s.catchUp(ctx); found.err != nil {
					return found
				}
				caughtUp = true
			}
			known, err := s.ruleByID(id)
			if err != nil {
				found.faults = append(found.faults, problem.Field(field(i), err.Error()))
				continue
			}
			want.rules = append(want.rules, known)
			want.named[id] = true
		}
		if last := want.rules[len(want.rules)-1].ID; seen[last] {
			found.faults = append(found.faults, problem.Field(field(i), "is the second rule with the id "+last))
		} else {
			seen[last] = true
		}
	}
	return found
}

// place is where in a body a part of it begins: after so many lines, and so many
// characters of the next.
type place struct{ lines, characters int }

func placeOf(before []byte) place {
	return place{bytes.Count(before, []byte("\n")), utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])}
}

// parseRules parses rules, exactly want of them unless that is 0. Faults are told
// with the field within field, and where in the body they are.
func parseRules(text []byte, want int, field string, at place) ([]rule.Rule, bodyFaults) {
	rules, err := rule.Parse(text)
	if found, ok := errors.AsType[rule.Faults](err); ok {
		faults := make(bodyFaults, len(found))
		for i, f := range found {
			faults[i] = problem.Field(strings.Trim(field+"."+f.Field, "."), f.Message)
			if f.Line > 0 {
				if f.Line == 1 {
					f.Column += at.characters
				}
				faults[i].Message = fmt.Sprintf("line %d, column %d: %s", f.Line+at.lines, f.Column, f.Message)
			}
		}
		return nil, faults
	}
	if want > 0 && len(rules) != want {
		return nil, bodyFaults{problem.Field(field, "must be one rule, or the id of one")}
	}
	seen := make(map[string]bool)
	for _, r := range rules {
		if seen[r.ID] {
			return nil, bodyFaults{problem.Field("id", "two rules have the id "+r.ID)}
		}
		seen[r.ID] = true
	}
	return rules, nil
}
