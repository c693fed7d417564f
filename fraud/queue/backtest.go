package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/rule"
)

// State is where a backtest stands.
type State string

// The states.
const (
	Queued    State = "queued"
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Ended says whether nothing more will come of it.
func (s State) Ended() bool { return s == Done || s == Failed || s == Cancelled }

// Tried is a rule that is tried, in summary.
type Tried struct {
	ID      string    `json:"id"`
	Version string    `json:"version"`
	Title   string    `json:"title"`
	Mode    rule.Mode `json:"mode"`
}

// Backtest is one in summary. The zero value has not been asked for.
type Backtest struct {
	ID    uuid.UUID
	State State
	By    uuid.UUID // who asked for it
	Rules []Tried
	// Asked is the request without its rules.
	Asked                           events.BacktestRequest
	RequestedAt, StartedAt, EndedAt time.Time
	Instance                        uuid.UUID // who works on it, while it is running
	Starts                          int       // how often it was begun and not given back
	BeatAt                          time.Time // when the instance last said that it is at it
	Events, Total                   uint64    // how far it had come then
	Error                           string    // why it failed
	Removed                         bool
	Version                         uint64 // counts its events
}

// ErrUnknown says that there is no such backtest.
var ErrUnknown = errors.New("no such backtest")

// isAbout says whether an event is about a backtest.
func isAbout(eventType string) bool {
	switch eventType {
	case events.BacktestRequested, events.BacktestStarted, events.BacktestProgressed, events.BacktestReturned,
		events.BacktestFinished, events.BacktestCancelled, events.BacktestRemoved:
		return true
	}
	return false
}

// Apply folds in the backtest's next event. One that has been folded in already is
// skipped. The error says that the event cannot be read or does not follow.
func (b *Backtest) Apply(e events.Recorded) error {
	if e.Version <= b.Version {
		return nil
	}
	if e.Version != b.Version+1 || (e.Version == 1) != (e.Type == events.BacktestRequested) {
		return fmt.Errorf("backtest %s: %s as event %d does not follow event %d", e.Stream, e.Type, e.Version, b.Version)
	}
	next := *b
	switch e.Type {
	case events.BacktestRequested:
		r, err := events.Unmarshal[events.BacktestRequest](e)
		if err != nil {
			return err
		}
		next = requested(e, r)
	case events.BacktestStarted, events.BacktestProgressed, events.BacktestReturned:
		s, err := events.Unmarshal[events.BacktestStep](e)
		if err != nil {
			return err
		}
		next.step(e, s)
	case events.BacktestFinished:
		end, err := events.Unmarshal[events.BacktestEnd](e)
		if err != nil {
			return err
		}
		next.State, next.EndedAt, next.Error = Done, e.OccurredAt, end.Error
		next.Events, next.Total = end.Events, end.Total
		if end.Error != "" {
			next.State = Failed
		}
	case events.BacktestCancelled:
		next.State, next.EndedAt = Cancelled, e.OccurredAt
	case events.BacktestRemoved:
		next.Removed = true
	}
	next.Version = e.Version
	*b = next
	return nil
}

// requested is a backtest that is asked for. A rule that this build cannot read, since
// a later one wrote it, is known by name alone.
func requested(e events.Recorded, r events.BacktestRequest) Backtest {
	b := Backtest{ID: e.Stream, State: Queued, By: r.By, RequestedAt: e.OccurredAt, Rules: make([]Tried, len(r.Rules))}
	for i, text := range r.Rules {
		var whole rule.Rule
		if json.Unmarshal(text, &whole) == nil {
			b.Rules[i] = Tried{ID: whole.ID, Version: whole.Version(), Title: whole.Title, Mode: whole.Mode}
			continue
		}
		var name struct {
			ID    string    `json:"id"`
			Title string    `json:"title"`
			Mode  rule.Mode `json:"mode"`
		}
		_ = json.Unmarshal(text, &name) // what there is of it
		b.Rules[i] = Tried{ID: name.ID, Title: name.Title, Mode: name.Mode}
	}
	b.Asked, b.Asked.Rules = r, nil
	return b
}

// Rules are the rules of a request. The error, an ErrFailed, says which one this build
// cannot read.
func Rules(r events.BacktestRequest) ([]rule.Rule, error) {
	rules := make([]rule.Rule, len(r.Rules))
	for i, text := range r.Rules {
		if err := json.Unmarshal(text, &rules[i]); err != nil {
			return nil, fmt.Errorf("%w: this build cannot read rule %d: %w", ErrFailed, i+1, err)
		}
	}
	return rules, nil
}

func (b *Backtest) step(e events.Recorded, s events.BacktestStep) {
	switch e.Type {
	case events.BacktestStarted:
		b.State, b.Instance, b.StartedAt = Running, s.Instance, e.OccurredAt
		b.Starts++
	case events.BacktestReturned:
		b.State, b.Instance, b.StartedAt = Queued, uuid.Nil, time.Time{}
		b.Starts--
	}
	b.BeatAt, b.Events, b.Total = e.OccurredAt, s.Events, s.Total
}

// free says whether an instance may take it.
func (b *Backtest) free(now time.Time) bool {
	return b.State == Queued || b.State == Running && now.Sub(b.BeatAt) >= Stale
}

// event makes the backtest's next event, with an ID of its own: of two instances
// that append one of the same version, one must fail.
func (b *Backtest) event(id uuid.UUID, eventType string, at time.Time, payload any) (events.Event, error) {
	data, err := json.Marshal(payload)
	if err != nil {
		return events.Event{}, fmt.Errorf("backtest %s: %s: %w", b.ID, eventType, err)
	}
	return events.Event{ID: id, Type: eventType, Stream: b.ID, Version: b.Version + 1, OccurredAt: at, Data: data}, nil
}

// Read folds a backtest's stream, and finds in it the request and, if it is done,
// the report. It is ErrUnknown if the stream is empty, another thing's, or the
// backtest was removed.
func Read(stream []events.Recorded) (b Backtest, request events.BacktestRequest, report json.RawMessage, err error) {
	if len(stream) == 0 || stream[0].Type != events.BacktestRequested {
		return b, request, nil, ErrUnknown
	}
	if request, err = events.Unmarshal[events.BacktestRequest](stream[0]); err != nil {
		return b, request, nil, err
	}
	for _, e := range stream {
		if err := b.Apply(e); err != nil {
			return b, request, nil, err
		}
		if e.Type == events.BacktestFinished {
			end, err := events.Unmarshal[events.BacktestEnd](e)
			if err != nil {
				return b, request, nil, err
			}
			report = end.Report
		}
	}
	if b.Removed {
		return b, request, nil, ErrUnknown
	}
	return b, request, report, nil
}
