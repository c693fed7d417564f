package fraud

import (
	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/fraud/register"
	"github.com/meet5/backend/fraud/rule"
)

// ruleAnswer is a rule as the fraud log has it.
type ruleAnswer struct {
	rule.Rule
	Version   string `json:"version"`
	DefinedAt stamp  `json:"defined_at"`
	DefinedBy string `json:"defined_by"`
	Why       string `json:"why"`
	ModeSince stamp  `json:"mode_since"`
	ModeBy    string `json:"mode_by"`
	ModeWhy   string `json:"mode_why"`
	Fault     string `json:"fault,omitempty"` // why this build cannot run it
	Runs      bool   `json:"runs"`
	Warming   bool   `json:"warming"` // its history is still being counted
	// Hits is null while the rule is not run; Flags counts those raised, by state.
	Hits    *uint64            `json:"hits"`
	Flags   map[flag.State]int `json:"flags"`
	Metrics ruleMetrics        `json:"metrics"`
}

// ruleMetrics is how a rule is doing, by this instance.
type ruleMetrics struct {
	// Evaluations are events that it listens to, history included.
	Evaluations *uint64 `json:"evaluations"`
	FlagsRaised int     `json:"flags_raised"`
	Confirmed   int     `json:"confirmed"`
	Dismissed   int     `json:"dismissed"`
	// Precision is confirmed of those decided, null if none is.
	Precision *float64 `json:"precision"`
	// Nanoseconds is what the rule takes for an event, measured on made-up ones when it
	// was loaded.
	Nanoseconds *int64 `json:"nanoseconds_per_event"`
	// UsersInAnHour is how many it has hit in the hour before its latest hit.
	UsersInAnHour *int `json:"users_in_an_hour"`
	// Noisy is why it wants a look: it is slow, or hits too many.
	Noisy []string `json:"noisy"`
}

func (s *Service) answerRule(k register.Rule) ruleAnswer {
	v := k.Current()
	a := ruleAnswer{
		Rule: k.Spec, Version: v.Hash, DefinedAt: stamp(v.At), DefinedBy: v.By, Why: v.Why,
		Flags: s.board.Counts(k.ID), Metrics: ruleMetrics{Noisy: []string{}},
	}
	a.ID, a.Mode = k.ID, k.Mode
	if k.Fault != nil {
		a.Rule = rule.Rule{ID: k.ID, Mode: k.Mode, Events: []rule.Kind{}}
		a.Fault = k.Fault.Error()
	}
	if n := len(v.Modes); n > 0 {
		last := v.Modes[n-1]
		a.ModeSince, a.ModeBy, a.ModeWhy = stamp(last.At), last.By, last.Why
	}
	if p := s.raiser.program.Load(); p != nil && p.plan.left[k.ID] != nil {
		a.Fault = p.plan.left[k.ID].Error()
	}
	if t := s.raiser.tallyOf(k.ID); t != nil {
		hits, evaluations := t.hits.Load(), t.evaluations.Load()
		a.Runs, a.Hits, a.Metrics.Evaluations = true, &hits, &evaluations
		a.Warming = !s.raiser.isWarm(t)
		users := t.usersInAnHour()
		a.Metrics.UsersInAnHour, a.Metrics.Noisy = &users, orEmpty(t.noise())
		if took := t.cost.Load(); took > 0 {
			a.Metrics.Nanoseconds = &took
		}
	}
	a.Metrics.judge(a.Flags)
	return a
}

// judge counts flags by what moderators have made of them.
func (m *ruleMetrics) judge(flags map[flag.State]int) {
	for state, n := range flags {
		m.FlagsRaised += n
		switch state {
		case flag.Confirmed, flag.Appealed, flag.Upheld:
			m.Confirmed += n
		case flag.Dismissed, flag.Overturned:
			m.Dismissed += n
		}
	}
	if decided := m.Confirmed + m.Dismissed; decided > 0 {
		precision := float64(m.Confirmed) / float64(decided)
		m.Precision = &precision
	}
}

// versionAnswer is a version that a rule has had.
type versionAnswer struct {
	Version   string       `json:"version"`
	Number    int          `json:"number"` // from 1
	DefinedAt stamp        `json:"defined_at"`
	DefinedBy string       `json:"defined_by"`
	Why       string       `json:"why"`
	Modes     []modeAnswer `json:"modes"`
	Raised    []spanAnswer `json:"raised"`
	Fault     string       `json:"fault,omitempty"`
	Rule      *rule.Rule   `json:"rule"`
}

// modeAnswer is a change of mode, which is none where a version came with the mode
// that the rule had.
type modeAnswer struct {
	Mode rule.Mode `json:"mode"`
	At   stamp     `json:"at"`
	By   string    `json:"by"`
	Why  string    `json:"why"`
}

// spanAnswer is where in the activity log a version's hits raised flags.
type spanAnswer struct {
	After []uint64 `json:"after"`
	Until []uint64 `json:"until"`
}

func answerVersion(k register.Rule, number int) versionAnswer {
	v := k.Versions[number-1]
	a := versionAnswer{
		Version: v.Hash, Number: number, DefinedAt: stamp(v.At), DefinedBy: v.By, Why: v.Why,
		Modes: make([]modeAnswer, len(v.Modes)), Raised: []spanAnswer{},
	}
	for i, m := range v.Modes {
		a.Modes[i] = modeAnswer{m.To, stamp(m.At), m.By, m.Why}
	}
	for _, s := range k.Spans {
		if s.Version == v.Hash {
			a.Raised = append(a.Raised, spanAnswer{s.After, s.Until})
		}
	}
	if r, err := v.Read(k.ID); err != nil {
		a.Fault = err.Error()
	} else {
		r.Mode = ""
		a.Rule = &r
	}
	return a
}

// hitAnswer is a hit of a rule, be it that a flag was raised or not.
type hitAnswer struct {
	User          uuid.UUID         `json:"user"`
	At            stamp             `json:"at"`
	Position      events.Position   `json:"position"`
	Observed      int               `json:"observed"`
	Threshold     int               `json:"threshold"`
	EvidenceCount int               `json:"evidence_count"`
	Evidence      []events.Position `json:"evidence"`
}

func answerHit(h hit) hitAnswer {
	return hitAnswer{h.user, stamp(h.at), h.position, h.observed, h.threshold, h.rests, h.evidence}
}
