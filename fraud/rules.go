package fraud

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/rule"
)

// byRuleBook is who defines the rules that ship with the service.
const byRuleBook = "rulebook"

// ruleSpace is the namespace of rules' streams.
var ruleSpace = uuid.MustParse("c9d0f1b2-7a34-5e6f-8b19-2c4d6e8f0a13")

// ruleStream is the stream of a rule's events.
func ruleStream(id string) uuid.UUID { return events.DeriveID(ruleSpace, id) }

// knownRule is a rule as the fraud log has it.
type knownRule struct {
	id        string
	version   string
	mode      rule.Mode
	modeBy    string // who set the mode last
	spec      json.RawMessage
	definedAt time.Time
	by        string // who defined the version
	events    uint64 // the length of its stream
}

// apply folds in the rule's next event. One that has been folded in is skipped.
func (k *knownRule) apply(e events.Recorded) error {
	if e.Version <= k.events {
		return nil
	}
	switch e.Type {
	case events.RuleDefined:
		d, err := events.Unmarshal[events.RuleDefinition](e)
		if err != nil {
			return err
		}
		if mode := rule.Mode(d.Mode); mode != k.mode { // a mode that stays is still whose it was
			k.mode, k.modeBy = mode, d.By
		}
		k.id, k.version, k.spec = d.Rule, d.Version, d.Spec
		k.definedAt, k.by = e.OccurredAt, d.By
	case events.RuleModeChanged:
		m, err := events.Unmarshal[events.RuleMode](e)
		if err != nil {
			return err
		}
		k.mode, k.modeBy = rule.Mode(m.To), m.By
	}
	k.events = e.Version
	return nil
}

// ruleRegister is all rules, folded from the fraud log. It is safe for concurrent
// use.
type ruleRegister struct {
	mu    sync.RWMutex
	rules map[uuid.UUID]*knownRule // by stream
}

func newRuleRegister() *ruleRegister { return &ruleRegister{rules: make(map[uuid.UUID]*knownRule)} }

// apply folds in an event of the fraud log; those about no rule change nothing.
func (g *ruleRegister) apply(e events.Recorded) error {
	if e.Type != events.RuleDefined && e.Type != events.RuleModeChanged {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	k := g.rules[e.Stream]
	if k == nil {
		k = new(knownRule)
	}
	if err := k.apply(e); err != nil {
		return err
	}
	g.rules[e.Stream] = k
	return nil
}

// list returns the rules, sorted by ID.
func (g *ruleRegister) list() []knownRule {
	g.mu.RLock()
	defer g.mu.RUnlock()
	out := make([]knownRule, 0, len(g.rules))
	for _, k := range slices.SortedFunc(maps.Values(g.rules), func(a, b *knownRule) int { return cmp.Compare(a.id, b.id) }) {
		out = append(out, *k)
	}
	return out
}

func (g *ruleRegister) get(id string) (knownRule, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if k := g.rules[ruleStream(id)]; k != nil {
		return *k, true
	}
	return knownRule{}, false
}

// prepare defines the rules that the log does not have as they are, and starts
// the engines with those that are to run. It tries until it succeeds or ctx ends.
func (s *Service) prepare(ctx context.Context) error {
	const wait, most = 50 * time.Millisecond, 5 * time.Second
	for pause := wait; ; pause = min(2*pause, most) {
		err := s.loadRules(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		s.deps.Logger.WarnContext(ctx, "the rules cannot be loaded yet, trying again", "error", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (s *Service) loadRules(ctx context.Context) error {
	var running []rule.Rule
	for _, r := range s.cfg.Rules {
		known, err := s.define(ctx, r)
		if err != nil {
			return fmt.Errorf("define rule %s: %w", r.ID, err)
		}
		// The log has the last word on the mode, and the build on the rest.
		if r.Mode = known.mode; r.Mode == rule.Live || r.Mode == rule.Shadow {
			running = append(running, r)
		}
	}
	return s.raiser.start(ctx, running)
}

// define sees to it that the log has the rule as the build has it, and returns
// what the log has.
func (s *Service) define(ctx context.Context, r rule.Rule) (knownRule, error) {
	for range maxTries {
		stream, err := log.ReadStream(ctx, s.deps.Log, ruleStream(r.ID))
		if err != nil {
			return knownRule{}, err
		}
		var known knownRule
		for _, e := range stream {
			if err := known.apply(e); err != nil {
				return knownRule{}, err
			}
		}
		next, err := definition(r, known)
		if err != nil || next.Type == "" {
			return known, err
		}
		next.OccurredAt = s.deps.Clock()
		// Another instance may be at it too: the version decides who does it.
		if _, err := s.deps.Log.Append(ctx, next); err != nil && !errors.Is(err, log.ErrConflict) {
			return knownRule{}, err
		}
	}
	return knownRule{}, fmt.Errorf("others changed it %d times meanwhile", maxTries)
}

// definition is the event that brings what the log has to what the build has; one
// without a type if nothing is to be done. A mode that somebody has set stays.
func definition(r rule.Rule, known knownRule) (events.Event, error) {
	var payload any
	e := events.Event{Stream: ruleStream(r.ID), Version: known.events + 1}
	switch version := r.Version(); {
	case known.version != version:
		spec, err := json.Marshal(r)
		if err != nil {
			return events.Event{}, err
		}
		mode := r.Mode
		if known.events > 0 && known.modeBy != byRuleBook {
			mode = known.mode
		}
		e.Type = events.RuleDefined
		payload = events.RuleDefinition{Rule: r.ID, Version: version, Mode: string(mode), Spec: spec, By: byRuleBook, Why: "it is in the rule book"}
	case known.mode != r.Mode && known.modeBy == byRuleBook:
		e.Type = events.RuleModeChanged
		payload = events.RuleMode{Rule: r.ID, From: string(known.mode), To: string(r.Mode), By: byRuleBook, Why: "the rule book has changed"}
	default:
		return events.Event{}, nil
	}
	var err error
	e.Data, err = json.Marshal(payload)
	e.ID = events.DeriveID(e.Stream, fmt.Sprintf("%d %s", e.Version, e.Data))
	return e, err
}
