package register

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/rule"
)

const (
	// MaxRules is how many rules that are not retired there may be. Each is a line
	// that somebody has to answer for.
	MaxRules = 1000
	// MaxRunning is how many rules may be in shadow or live: each costs every event
	// that it listens to some 100 ns, and its state.
	MaxRunning = 200
	// MaxVersions is how many versions a rule may have: all of them are kept in
	// memory.
	MaxVersions = 500
	// MaxSpec is how large a rule may be as JSON, in bytes, so that an event holds it.
	MaxSpec = 192 << 10
	// MaxWhy is the longest reason of a change, in characters.
	MaxWhy = 500
)

// Errors of a change.
var (
	// ErrUnknown: there is no such rule.
	ErrUnknown = errors.New("there is no such rule")
	// ErrRefused: the rule is not in a state to be changed like that, or there are
	// too many. The error says why, and the way out.
	ErrRefused = errors.New("refused")
)

// refusal is an ErrRefused whose text is for people.
type refusal string

func (r refusal) Error() string      { return string(r) }
func (refusal) Is(target error) bool { return target == ErrRefused }

func refuse(format string, args ...any) error { return refusal(fmt.Sprintf(format, args...)) }

// CheckWhy returns what is wrong with the reason of a change; nothing if it will do.
func CheckWhy(why string) (fault string) {
	switch n := utf8.RuneCountInString(strings.TrimSpace(why)); {
	case n == 0:
		return "is missing: say in 1 to 500 characters why, since everyone can read it later"
	case utf8.RuneCountInString(why) > MaxWhy:
		return fmt.Sprintf("has %d characters, at most %d are allowed", utf8.RuneCountInString(why), MaxWhy)
	}
	return ""
}

// Put is the event that makes the rule what r says; its type is empty if it is that
// already. A new rule must be a draft. The mode of a rule that is there stays: r's is
// not looked at. The event has no ID yet. The error is
// ErrRefused, or rule.Faults.
func (g *Register) Put(r rule.Rule, c Change) (events.Event, error) {
	k, there := g.Get(r.ID)
	if !there {
		if r.Mode != rule.Draft {
			return events.Event{}, refuse("a new rule begins as a draft; leave the mode out, and change it once the rule is there")
		}
		if n := g.count(func(k *Rule) bool { return k.Mode != rule.Retired }); n >= MaxRules {
			return events.Event{}, refuse("there are %d rules already, and at most %d are allowed; retire those that nobody needs", n, MaxRules)
		}
	} else {
		r.Mode = k.Mode
		if r.Mode == "" { // its history cannot be read
			r.Mode = rule.Draft
		}
	}
	if k.Fault == nil && there && same(r, k.Spec) {
		return events.Event{}, nil
	}
	if err := k.stays(r); err != nil {
		return events.Event{}, err
	}
	if len(k.Versions) >= MaxVersions {
		return events.Event{}, refuse("the rule has had %d versions, and at most %d are allowed; retire it and go on with a new one", len(k.Versions), MaxVersions)
	}
	if k.Runs() {
		if err := g.fits(r); err != nil {
			return events.Event{}, err
		}
	}
	return definition(k, r, c)
}

// stays says whether a new version looks at the log as those before it did: in the order
// of each actor, or in the one order of all. Of hits in both orders there would be none
// that says which of a user raises the flag.
func (k *Rule) stays(r rule.Rule) error {
	for _, v := range slices.Backward(k.Versions) {
		if before, err := v.Read(k.ID); err == nil {
			if before.Ordered() != r.Ordered() {
				return refuse("a rule that counts what one actor does cannot become one that looks at several, nor the other way round; give it another id, and retire this one")
			}
			return nil
		}
	}
	return nil
}

// fits says whether a rule may run beside the others that do.
func (g *Register) fits(r rule.Rule) error {
	known, _ := g.All()
	together := []rule.Rule{r}
	for _, k := range known {
		if k.ID != r.ID && k.Runs() {
			together = append(together, k.Spec)
		}
	}
	if err := Fit(together); err != nil {
		return refuse("it cannot run beside the rules that do: %v", err)
	}
	return nil
}

// Fit says whether rules can run together, or why not.
func Fit(rules []rule.Rule) error {
	if err := engine.Check(rules); err != nil {
		return err
	}
	return rule.CheckCost(rules)
}

// same says whether two rules are equal, but for their modes.
func same(a, b rule.Rule) bool {
	a.Mode, b.Mode = "", ""
	one, errOne := json.Marshal(a)
	other, errOther := json.Marshal(b)
	return errOne == nil && errOther == nil && string(one) == string(other)
}

func definition(k Rule, r rule.Rule, c Change) (events.Event, error) {
	spec, err := json.Marshal(r)
	if err != nil {
		return events.Event{}, fmt.Errorf("define rule %s: %w", r.ID, err)
	}
	if len(spec) > MaxSpec {
		return events.Event{}, rule.Faults{{Message: fmt.Sprintf("the rule has %d bytes as JSON, at most %d are allowed; it needs fewer cases", len(spec), MaxSpec)}}
	}
	return event(k, r.ID, events.RuleDefined, c.At, events.RuleDefinition{
		Rule: r.ID, Version: r.Version(), Mode: string(r.Mode), Spec: spec, By: c.By, Why: c.Why,
	})
}

// Modes lists all modes, in the order in which a rule may come to them.
func Modes() []rule.Mode { return []rule.Mode{rule.Draft, rule.Shadow, rule.Live, rule.Retired} }

// ways are where a rule may go from a mode. Who is sure may go from draft to live.
var ways = map[rule.Mode][]rule.Mode{
	rule.Draft:   {rule.Shadow, rule.Retired},
	rule.Shadow:  {rule.Live, rule.Retired},
	rule.Live:    {rule.Shadow, rule.Retired},
	rule.Retired: {rule.Draft},
}

// SetMode is the event that brings the rule to a mode; its type is empty if it is
// there already. force lets a draft go live at once. The event has no ID yet. The
// error is ErrUnknown or ErrRefused.
func (g *Register) SetMode(id string, to rule.Mode, force bool, c Change) (events.Event, error) {
	k, there := g.Get(id)
	switch {
	case !there:
		return events.Event{}, ErrUnknown
	case k.Mode == to:
		return events.Event{}, nil
	case k.Fault != nil && to != rule.Retired:
		return events.Event{}, refuse("this build cannot read the rule (%v); put it anew first", k.Fault)
	case k.Mode == rule.Draft && to == rule.Live && !force:
		return events.Event{}, refuse("shadow first: in shadow a rule shows whom it would flag; to go live unseen, say force")
	case !slices.Contains(ways[k.Mode], to) && (k.Mode != rule.Draft || to != rule.Live) && to != rule.Retired:
		return events.Event{}, refuse("a rule cannot go from %s to %s; from %s it can go to %s", k.Mode, to, k.Mode, list(ways[k.Mode]))
	}
	if runs := to == rule.Live || to == rule.Shadow; runs && !k.Runs() {
		if n := g.count(func(k *Rule) bool { return k.Runs() }); n >= MaxRunning {
			return events.Event{}, refuse("%d rules are in shadow or live already, and at most %d are allowed; retire one first", n, MaxRunning)
		}
		if err := g.fits(k.Spec); err != nil {
			return events.Event{}, err
		}
	}
	if k.Mode == rule.Retired {
		if n := g.count(func(k *Rule) bool { return k.Mode != rule.Retired }); n >= MaxRules {
			return events.Event{}, refuse("there are %d rules that are not retired, and at most %d are allowed", n, MaxRules)
		}
	}
	return modeChange(k, to, c)
}

func list(modes []rule.Mode) string {
	words := make([]string, len(modes))
	for i := range modes {
		words[i] = string(modes[i])
	}
	return strings.Join(words, " or ")
}

func modeChange(k Rule, to rule.Mode, c Change) (events.Event, error) {
	return event(k, k.ID, events.RuleModeChanged, c.At, events.RuleMode{
		Rule: k.ID, From: string(k.Mode), To: string(to), By: c.By, Why: c.Why,
	})
}

func (g *Register) count(which func(*Rule) bool) (n int) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, k := range g.rules {
		if which(k) {
			n++
		}
	}
	return n
}

// TakeEffect is the event that says where the rule's announced change takes effect:
// after these, the heads of the activity log's partitions, read when the rule had been
// read as it is.
func (k Rule) TakeEffect(heads []uint64, now time.Time) (events.Event, error) {
	e, err := event(k, k.ID, events.RuleTookEffect, now, events.RuleEffect{
		Rule: k.ID, Version: k.Current().Hash, Mode: string(k.Mode), After: heads,
	})
	// Several do it at once: the first counts.
	e.ID = events.DeriveID(e.Stream, fmt.Sprintf("%d took effect", e.Version))
	return e, err
}

// event is a rule's next event.
func event(k Rule, id, eventType string, at time.Time, payload any) (events.Event, error) {
	data, err := json.Marshal(payload)
	if err != nil {
		return events.Event{}, fmt.Errorf("change rule %s: %w", id, err)
	}
	return events.Event{
		ID: uuid.Nil, Type: eventType, Stream: Stream(id), Version: k.Events + 1, OccurredAt: at, Data: data,
	}, nil
}
