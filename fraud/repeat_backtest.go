package fraud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/queue"
	"github.com/meet5/backend/service/problem"
)

var (
	// errOtherBacktest is the 409 of an ID that was sent with another request.
	errOtherBacktest = problem.Conflict("another backtest has this id; choose another")
	// errNotBacktest is the 409 of an ID that is something else's, or a removed backtest's.
	errNotBacktest = problem.Conflict("the id is taken by something that is no backtest any more, or never was one; choose another")
)

// askedBefore finds the backtest that a request asked for when it came the first time;
// ok is false if nothing is there under its ID. It is a 409 if something else is.
func (s *Service) askedBefore(ctx context.Context, want wanted) (b queue.Backtest, ok bool, err error) {
	stream, err := log.ReadStream(ctx, s.deps.Log, want.id)
	if err != nil {
		return b, false, outOfReach(err)
	}
	if len(stream) == 0 {
		return b, false, nil
	}
	b, first, _, err := queue.Read(stream)
	if errors.Is(err, queue.ErrUnknown) {
		return b, false, errNotBacktest
	}
	if err != nil {
		return b, false, err
	}
	same, err := want.sameAs(first)
	if err == nil && !same {
		err = errOtherBacktest
	}
	return b, err == nil, err
}

// sameAs says whether a request asks for what another one did, by the same user. Of
// rules that were given by ID the IDs are held against each other, since they may have
// changed in between, and of rules that were left out nothing is.
func (w *wanted) sameAs(first events.BacktestRequest) (bool, error) {
	rules := first.Rules
	first.Rules = nil
	a, err := json.Marshal(first)
	if err != nil {
		return false, err
	}
	b, err := json.Marshal(w.asked)
	if err != nil {
		return false, err
	}
	if !bytes.Equal(a, b) || len(w.rules) > 0 && len(w.rules) != len(rules) {
		return false, nil
	}
	for i, r := range w.rules {
		var there struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(rules[i], &there); err != nil {
			return false, err
		}
		text, err := ruleText(r)
		if err != nil {
			return false, err
		}
		if there.ID != r.ID || !w.named[r.ID] && !bytes.Equal(text, rules[i]) {
			return false, nil
		}
	}
	return true, nil
}
