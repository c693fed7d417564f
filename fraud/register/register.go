// Package register is all fraud rules as the fraud log has them: what they say, how
// far each has come, who changed it and why, and from where to where in the activity
// log each has raised flags. It is plain Go and folds from the log.
//
// It promises that
//   - what cannot be read, an event or a rule that a later build has written, concerns
//     its own rule only: that one is listed with the reason and not run, and may be
//     put anew;
//   - from where on a change raises flags, or raises none, follows from the log alone.
//     A change that concerns what is raised is announced first; the heads of the
//     activity log that are read after that, and are then on record, are where it
//     takes effect. Who has not seen the announcement yet cannot have come further, so
//     that no flag is raised that should not be, and none is missed, however many
//     instances there are and whenever they hear of it;
//   - of those who change a rule at once one does, and the others learn of it.
package register

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/rule"
)

// space is the namespace of rules' streams.
var space = uuid.MustParse("c9d0f1b2-7a34-5e6f-8b19-2c4d6e8f0a13")

// Stream is the stream of a rule's events.
func Stream(id string) uuid.UUID { return events.DeriveID(space, id) }

// typePrefix begins the type of every event that is about a rule, also of those that
// a later build adds.
const typePrefix = "fraud.rule_"

// Change is something that was done to a rule.
type Change struct {
	At  time.Time `json:"at"`
	By  string    `json:"by"` // a user's ID, RuleBook, or the name of an operator
	Why string    `json:"why"`
}

// ModeChange is a change of a rule's mode.
type ModeChange struct {
	Change
	From rule.Mode `json:"from"`
	To   rule.Mode `json:"to"`
}

// Version is a rule's content at a time.
type Version struct {
	Change
	// Hash is rule.Version. Two versions in a row may have one, if only cases differ.
	Hash string
	// Spec is the rule as JSON.
	Spec json.RawMessage
	// Modes are the changes of mode while it was current, the mode that it came with
	// first.
	Modes []ModeChange
}

// Span is where in the activity log a version raises flags.
type Span struct {
	Version string `json:"version"`
	// After is, by partition, the last event before the span; Until the last one in
	// it, nil while it has no end. A partition that is not listed is there from its
	// beginning.
	After []uint64 `json:"after"`
	Until []uint64 `json:"until"`
}

func at(places []uint64, partition int) uint64 {
	if partition < len(places) {
		return places[partition]
	}
	return 0
}

// Begin is the last event of a partition before the span.
func (s Span) Begin(partition int) uint64 { return at(s.After, partition) }

// End is the last event of a partition in the span.
func (s Span) End(partition int) uint64 {
	if s.Until == nil {
		return 1<<64 - 1
	}
	return at(s.Until, partition)
}

// Holds says whether an event is in the span.
func (s Span) Holds(partition int, sequence uint64) bool {
	return sequence > s.Begin(partition) && sequence <= s.End(partition)
}

// Rule is a rule as the log has it. It is a copy, whose slices must not be changed.
type Rule struct {
	ID string
	// Mode is how far it has come.
	Mode rule.Mode
	// Versions are all that it has had, the current one last; none if none can be
	// read.
	Versions []Version
	// Spans are where it has raised flags, in order; the last may have no end.
	Spans []Span
	// Fault says why this build cannot read it; nil if it can.
	Fault error
	// Spec is the current version with its mode, if Fault is nil.
	Spec rule.Rule
	// Events is the length of its stream, Changes how many of those are definitions
	// and changes of mode.
	Events, Changes uint64

	modeBy string
	others bool // somebody else than the rule book has changed it
	lost   bool // an event could not be read: where it stands is not known
}

// Current is the version that counts; the zero Version if none can be read.
func (k Rule) Current() Version {
	if len(k.Versions) == 0 {
		return Version{}
	}
	return k.Versions[len(k.Versions)-1]
}

// Runs says whether engines are to run the rule.
func (k Rule) Runs() bool {
	return k.Fault == nil && (k.Mode == rule.Live || k.Mode == rule.Shadow)
}

// raising is the version that raises flags by what has been announced.
func (k *Rule) raising() string {
	if k.Mode != rule.Live {
		return ""
	}
	return k.Current().Hash
}

// open is the span without an end.
func (k *Rule) open() *Span {
	if n := len(k.Spans); n > 0 && k.Spans[n-1].Until == nil {
		return &k.Spans[n-1]
	}
	return nil
}

// Announced says whether a change of what is raised has been announced, and where it
// takes effect is not on record yet.
func (k *Rule) Announced() bool {
	if k.lost {
		return false // for those to say who can read it
	}
	version := ""
	if s := k.open(); s != nil {
		version = s.Version
	}
	return version != k.raising()
}

// apply folds in the rule's next event.
func (k *Rule) apply(e events.Recorded) {
	k.Events = e.Version
	var err error
	switch e.Type {
	case events.RuleDefined:
		err = k.define(e)
	case events.RuleModeChanged:
		err = k.changeMode(e)
	case events.RuleTookEffect:
		err = k.takeEffect(e)
	default:
		err = fmt.Errorf("event %d is a %s, which this build does not know", e.Version, e.Type)
	}
	if err != nil {
		k.Fault, k.lost, k.others = err, true, true // until it is defined anew
	}
}

func (k *Rule) define(e events.Recorded) error {
	d, err := events.Unmarshal[events.RuleDefinition](e)
	if err != nil {
		return err
	}
	k.Changes++
	k.ID = d.Rule
	k.others = k.others || d.By != RuleBook
	made := Change{At: e.OccurredAt, By: d.By, Why: d.Why}
	v := Version{Change: made, Hash: d.Version, Spec: d.Spec, Modes: []ModeChange{{Change: made, From: k.Mode, To: rule.Mode(d.Mode)}}}
	k.Versions = append(slices.Clip(k.Versions), v) // copies of the rule keep theirs
	if mode := rule.Mode(d.Mode); mode != k.Mode {  // a mode that stays is still whose it was
		k.Mode, k.modeBy = mode, d.By
	}
	k.lost = false
	k.Spec, k.Fault = read(d)
	k.Spec.Mode = k.Mode
	return nil
}

// read reads a definition's rule.
func read(d events.RuleDefinition) (rule.Rule, error) {
	list, err := rule.Parse(d.Spec)
	switch {
	case err != nil:
		return rule.Rule{}, err
	case len(list) != 1 || list[0].ID != d.Rule:
		return rule.Rule{}, fmt.Errorf("it does not hold the rule %s alone", d.Rule)
	}
	return list[0], nil
}

func (k *Rule) changeMode(e events.Recorded) error {
	m, err := events.Unmarshal[events.RuleMode](e)
	if err != nil {
		return err
	}
	k.Changes++
	k.ID = m.Rule
	k.others = k.others || m.By != RuleBook
	if n := len(k.Versions); n > 0 {
		k.Versions = slices.Clone(k.Versions)
		v := &k.Versions[n-1]
		v.Modes = append(slices.Clip(v.Modes), ModeChange{
			Change: Change{At: e.OccurredAt, By: m.By, Why: m.Why}, From: k.Mode, To: rule.Mode(m.To),
		})
	}
	k.Mode, k.modeBy = rule.Mode(m.To), m.By
	k.Spec.Mode = k.Mode
	return nil
}

func (k *Rule) takeEffect(e events.Recorded) error {
	t, err := events.Unmarshal[events.RuleEffect](e)
	if err != nil {
		return err
	}
	k.Spans = slices.Clone(k.Spans)
	if s := k.open(); s != nil {
		s.Until = t.After
		if s.Until == nil {
			s.Until = []uint64{}
		}
	}
	if rule.Mode(t.Mode) == rule.Live {
		k.Spans = append(k.Spans, Span{Version: t.Version, After: t.After})
	}
	return nil
}

// Register is all rules. It is safe for concurrent use.
type Register struct {
	mu       sync.RWMutex
	rules    map[uuid.UUID]*Rule // by stream
	revision uint64
	raising  uint64
}

// New makes an empty register.
func New() *Register { return &Register{rules: make(map[uuid.UUID]*Rule)} }

// Apply folds in an event of the fraud log and says whether that changed a rule.
// Events about no rule, and those that have been folded in, change nothing.
func (g *Register) Apply(e events.Recorded) bool {
	if !strings.HasPrefix(e.Type, typePrefix) {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	k := g.rules[e.Stream]
	if k == nil {
		k = &Rule{ID: e.Stream.String()} // until an event says what it is called
		g.rules[e.Stream] = k
	}
	if e.Version <= k.Events {
		return false
	}
	before, spans := k.raising(), len(k.Spans)
	k.apply(e)
	g.revision++
	if k.raising() != before || len(k.Spans) != spans || e.Type == events.RuleTookEffect {
		g.raising = g.revision
	}
	return true
}

// All returns the rules, sorted by ID, and the revision that they make up: a number
// that grows with every change.
func (g *Register) All() (rules []Rule, revision uint64) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	rules = make([]Rule, 0, len(g.rules))
	for _, k := range slices.SortedFunc(maps.Values(g.rules), func(a, b *Rule) int { return cmp.Compare(a.ID, b.ID) }) {
		rules = append(rules, *k)
	}
	return rules, g.revision
}

// Revision is the revision of the rules as they are, and that of the latest change of
// what is raised.
func (g *Register) Revision() (all, raising uint64) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.revision, g.raising
}

// Get returns a rule.
func (g *Register) Get(id string) (Rule, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if k := g.rules[Stream(id)]; k != nil {
		return *k, true
	}
	return Rule{}, false
}

// Verdict is whether a hit raises a flag.
type Verdict int

// The verdicts.
const (
	// No: the version was not live there.
	No Verdict = iota
	// Yes: it was.
	Yes
	// Unsettled: that depends on where an announced change takes effect.
	Unsettled
)

// Raises says whether a hit of a rule's version on an event of the activity log
// raises a flag.
func (g *Register) Raises(id, version string, partition int, sequence uint64) Verdict {
	g.mu.RLock()
	defer g.mu.RUnlock()
	k := g.rules[Stream(id)]
	if k == nil {
		return No
	}
	announced := k.Announced()
	for _, s := range k.Spans {
		if s.Version == version && s.Holds(partition, sequence) {
			if s.Until == nil && announced {
				return Unsettled
			}
			return Yes
		}
	}
	if announced && version == k.raising() {
		return Unsettled
	}
	return No
}

// Announced returns the rules whose announced changes have no place on record yet,
// sorted by ID.
func (g *Register) Announced() (announced []Rule) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, k := range g.rules {
		if k.Announced() {
			announced = append(announced, *k)
		}
	}
	slices.SortFunc(announced, func(a, b Rule) int { return cmp.Compare(a.ID, b.ID) })
	return announced
}

// Read reads one of the rule's versions.
func (k Rule) Read(hash string) (rule.Rule, error) {
	for _, v := range slices.Backward(k.Versions) {
		if v.Hash == hash {
			return v.Read(k.ID)
		}
	}
	return rule.Rule{}, fmt.Errorf("rule %s has no version %s", k.ID, hash)
}

// Read reads the version's rule, which has the ID.
func (v Version) Read(id string) (rule.Rule, error) {
	return read(events.RuleDefinition{Rule: id, Spec: v.Spec})
}
