package rule

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Fault is something wrong with a rule.
type Fault struct {
	// Field is the path of the field, as in "cases[2].history[0].every"; empty
	// for the whole.
	Field string `json:"field"`
	// Line and Column count from 1; 0 if the rule did not come from a text.
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
}

// String is the fault in a line: "3:12: threshold: must be …".
func (f Fault) String() string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, "%d:%d: ", f.Line, f.Column)
	}
	if f.Field != "" {
		b.WriteString(f.Field + ": ")
	}
	b.WriteString(f.Message)
	return b.String()
}

// Faults is everything wrong with a text or a rule, as an error.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}

// What may stand where one of a few words must. The order of kinds is the one
// that Events are kept in.
var (
	keys       = []Key{KeyActor, KeyTarget}
	kinds      = []Kind{Visit, Like, Unlike}
	aggregates = []Aggregate{Count, Distinct, PairedDistinct, Burst, InLockstep, InRatio, InSequence, InRegularity}
	familiar   = []Familiarity{Repeated, New}
	readings   = []Reading{Both, Each}
	effects    = []Effect{Flag, FlagAndMark}
	modes      = []Mode{Draft, Shadow, Live, Retired}
)

// Validate returns all faults of the rule as Faults, or nil. What Parse fills in
// by itself (key, reading, effect, mode) must be set.
func (r Rule) Validate() error {
	v := &validator{}
	v.rule(r)
	if len(v.faults) == 0 {
		return nil
	}
	return v.faults
}

type validator struct{ faults Faults }

func (v *validator) fail(field, format string, args ...any) {
	v.faults = append(v.faults, Fault{Field: field, Message: fmt.Sprintf(format, args...)})
}

func oneOf[T ~string](v *validator, field string, got T, allowed []T) bool {
	if slices.Contains(allowed, got) {
		return true
	}
	if got == "" {
		v.fail(field, "is missing; it must be %s", words(allowed))
	} else {
		v.fail(field, "must be %s, not %s", words(allowed), quote(string(got)))
	}
	return false
}

func words[T ~string](list []T) string {
	s := make([]string, len(list))
	for i := range list {
		s[i] = string(list[i])
	}
	if len(s) == 1 {
		return s[0]
	}
	return strings.Join(s[:len(s)-1], ", ") + " or " + s[len(s)-1]
}

// quote shows a text of the rule's author, but not too much of it.
func quote(s string) string {
	const most = 40
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

func (v *validator) text(field, s string, least, most int) {
	switch n := utf8.RuneCountInString(s); {
	case n == 0 && least > 0:
		v.fail(field, "is missing")
	case n > most:
		v.fail(field, "has %d characters, at most %d are allowed", n, most)
	}
}

func (v *validator) rule(r Rule) {
	v.id(r.ID)
	v.text("title", r.Title, 1, maxTitle)
	v.text("description", r.Description, 0, maxDescription)
	if oneOf(v, "key", r.Key, keys) && r.Key == KeyTarget {
		v.byTarget(r)
	}
	v.events(r)
	v.where(r)
	v.window(r.Window)
	if oneOf(v, "aggregate", r.Aggregate, aggregates) {
		v.aggregate(r)
	} else {
		v.number("threshold", r.Threshold, 1, MaxThreshold)
	}
	v.number("score", r.Score, 0, MaxScore)
	oneOf(v, "effect", r.Effect, effects)
	if r.TimeToLive != 0 {
		v.length("time_to_live", r.TimeToLive, minTimeToLive, maxWindow)
	}
	oneOf(v, "mode", r.Mode, modes)
	v.cases(r)
}

func (v *validator) id(id string) {
	switch {
	case id == "":
		v.fail("id", "is missing")
	case len(id) > maxID:
		v.fail("id", "has %d characters, at most %d are allowed", len(id), maxID)
	case !IsID(id):
		v.fail("id", "must be lower-case letters, digits and single hyphens between them, as in like-storm, not %s", quote(id))
	}
}

// IsID says whether s could be a rule's ID.
func IsID(s string) bool {
	if s == "" || len(s) > maxID {
		return false
	}
	hyphen := true // one may not stand first
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			hyphen = false
		case c == '-' && !hyphen:
			hyphen = true
		default:
			return false
		}
	}
	return !hyphen
}

func (v *validator) number(field string, n, least, most int) {
	if n < least || n > most {
		v.fail(field, "must be from %d to %d, not %d", least, most, n)
	}
}

func (v *validator) events(r Rule) {
	if len(r.Events) == 0 {
		v.fail("events", "is missing; list some of %s", words(kinds))
		return
	}
	for i, k := range r.Events {
		field := fmt.Sprintf("events[%d]", i)
		if oneOf(v, field, k, kinds) && slices.Index(r.Events, k) < i {
			v.fail(field, "%s is listed twice", k)
		}
	}
}

// bothKinds sees to it that the rule listens to two kinds and no more.
func (v *validator) bothKinds(r Rule, a, b Kind) {
	if !slices.Contains(kinds, a) || !slices.Contains(kinds, b) || a == b {
		return // a fault that is noted elsewhere
	}
	for _, k := range r.Events {
		if !slices.Contains(kinds, k) {
			return
		}
	}
	if len(r.Events) != 2 || !slices.Contains(r.Events, a) || !slices.Contains(r.Events, b) {
		v.fail("events", "must be %s and %s for the aggregate %s", a, b, r.Aggregate)
	}
}

// byTarget sees to it that a rule by target asks for nothing that is known of actors
// only.
func (v *validator) byTarget(r Rule) {
	if r.Window.SinceAccountCreation != 0 {
		v.fail("window.since_account_creation", "goes with the key actor only: of a target it is not known; use since_first_event")
	}
	if r.Where.Target != "" {
		v.fail("where.target", "goes with the key actor only")
	}
}

func (v *validator) where(r Rule) {
	if age := r.Where.AccountAge; age != (Age{}) {
		v.offset("where.account_age.at_least", age.AtLeast, maxAge)
		v.offset("where.account_age.below", age.Below, maxAge)
		if age.Below != 0 && age.Below <= age.AtLeast {
			v.fail("where.account_age", "no account is at least %s old and below %s", age.AtLeast, age.Below)
		}
	}
	if h := r.Where.Hour; h != (Hours{}) {
		v.number("where.hour.from", h.From, 0, 23)
		v.number("where.hour.until", h.Until, 1, 24)
		if h.From == h.Until {
			v.fail("where.hour", "is empty, or all of the day; leave it out for all of the day")
		}
	}
	if r.Where.Target != "" && oneOf(v, "where.target", r.Where.Target, familiar) &&
		(r.Aggregate == PairedDistinct || r.Aggregate == InSequence || r.Aggregate == InLockstep) {
		v.fail("where.target", "does not go with the aggregate %s, which is about targets that come again", r.Aggregate)
	}
}

// aggregate checks what belongs to the rule's aggregate, and that nothing of
// another's is there.
func (v *validator) aggregate(r Rule) {
	least, most := 1, MaxThreshold
	if r.Aggregate == Burst {
		v.burst(r)
	}
	if r.Aggregate == PairedDistinct {
		oneOf(v, "reading", r.Reading, readings)
		v.bothKinds(r, Visit, Like)
	} else if r.Reading != "" {
		v.fail("reading", "belongs to the aggregate paired_distinct only; leave it out")
	}
	if v.owns("ratio", r.Ratio != nil, r.Aggregate == InRatio, "{of: like, per: visit, volume: 100}") {
		oneOf(v, "ratio.of", r.Ratio.Of, kinds)
		if oneOf(v, "ratio.per", r.Ratio.Per, kinds) && r.Ratio.Per == r.Ratio.Of {
			v.fail("ratio.per", "must be another kind than of")
		}
		v.number("ratio.volume", r.Ratio.Volume, 2, MaxThreshold)
		v.bothKinds(r, r.Ratio.Of, r.Ratio.Per)
	}
	if v.owns("sequence", r.Sequence != nil, r.Aggregate == InSequence, "{first: visit, then: like, within: 2s}") {
		oneOf(v, "sequence.first", r.Sequence.First, kinds)
		if oneOf(v, "sequence.then", r.Sequence.Then, kinds) && r.Sequence.Then == r.Sequence.First {
			v.fail("sequence.then", "must be another kind than first")
		}
		v.length("sequence.within", r.Sequence.Within, minWithin, maxWithin)
		if length := r.Window.Sliding; length > 0 && r.Sequence.Within > length {
			v.fail("sequence.within", "is at most as long as the sliding window, %s, not %s", length, r.Sequence.Within)
		}
		v.bothKinds(r, r.Sequence.First, r.Sequence.Then)
	}
	if v.owns("regularity", r.Regularity != nil, r.Aggregate == InRegularity, "{variation: 5}") {
		v.number("regularity.variation", r.Regularity.Variation, 0, maxVariation)
		if length, _ := r.Window.Length(); length > maxEvenWindow {
			v.fail("window", "is at most %s long for the aggregate regularity, not %s", maxEvenWindow, length)
		}
		least, most = minGaps, maxGaps
	}
	if v.owns("lockstep", r.Lockstep != nil, r.Aggregate == InLockstep, "{targets: 3}") {
		v.lockstep(r)
		least, most = minLock, maxLockAccounts
	}
	v.number("threshold", r.Threshold, least, most)
}

func (v *validator) burst(r Rule) {
	if r.Key != KeyTarget {
		v.fail("key", "must be target for the aggregate burst, not %s", r.Key)
	}
	if r.Where.AccountAge.Below == 0 {
		v.fail("where.account_age.below", "is missing; the aggregate burst counts young accounts, such as {below: 1d}")
	}
}

func (v *validator) lockstep(r Rule) {
	v.number("lockstep.targets", r.Lockstep.Targets, minLock, maxLockTargets)
	if r.Key == KeyTarget {
		v.fail("key", "must be actor for the aggregate lockstep: it flags those who act together")
	}
	if i := slices.Index(r.Events, Unlike); i >= 0 {
		v.fail(fmt.Sprintf("events[%d]", i), "unlike does not go with the aggregate lockstep; list visit, like or both")
	}
	if _, anchored := r.Window.Length(); anchored {
		v.fail("window", "must be sliding for the aggregate lockstep: the accounts have no moment in common at which it could begin")
	}
}

// owns says whether the parameters of an aggregate are there, as they must be if it
// is the rule's and must not else.
func (v *validator) owns(field string, there, wanted bool, example string) bool {
	switch {
	case there && !wanted:
		v.fail(field, "belongs to the aggregate %s only; leave it out", field)
	case wanted && !there:
		v.fail(field, "is missing; give %s", example)
	}
	return there && wanted
}

func (v *validator) window(w Window) {
	set := 0
	for _, one := range []struct {
		field  string
		length Duration
	}{
		{"window.sliding", w.Sliding},
		{"window.since_account_creation", w.SinceAccountCreation},
		{"window.since_first_event", w.SinceFirstEvent},
	} {
		if one.length != 0 {
			set++
			v.length(one.field, one.length, minWindow, maxWindow)
		}
	}
	switch {
	case set > 1:
		v.fail("window", "has more than one of sliding, since_account_creation and since_first_event; keep one")
	case set == 0:
		v.fail("window", "is missing; give {sliding: 10m}, {since_account_creation: 10m} or {since_first_event: 10m}")
	}
}

func (v *validator) length(field string, d, least, most Duration) {
	if d < least || d > most {
		v.fail(field, "must be from %s to %s, not %s", least, most, d)
	}
}

func (v *validator) cases(r Rule) {
	if len(r.Cases) > maxCases {
		v.fail("cases", "has %d cases, at most %d are allowed", len(r.Cases), maxCases)
		return
	}
	names := make(map[string]bool, len(r.Cases))
	total := 0
	for i, c := range r.Cases {
		field := fmt.Sprintf("cases[%d]", i)
		v.text(field+".name", c.Name, 1, maxTitle)
		if c.Name != "" && names[c.Name] {
			v.fail(field+".name", "another case has this name")
		}
		names[c.Name] = true
		v.offset(field+".account_age", c.AccountAge, maxWindow)
		if len(c.History) == 0 || len(c.History) > maxSteps {
			v.fail(field+".history", "has %d steps, want 1 to %d", len(c.History), maxSteps)
		}
		for j, s := range c.History {
			total += v.step(fmt.Sprintf("%s.history[%d]", field, j), s, r.Aggregate)
		}
		for j, at := range c.Expect.FiresAt {
			place := fmt.Sprintf("%s.expect.fires_at[%d]", field, j)
			v.offset(place, at, maxWindow)
			if j > 0 && at < c.Expect.FiresAt[j-1] {
				v.fail(place, "is before the one above it")
			}
		}
	}
	if total > maxCaseEvents {
		v.fail("cases", "make %d events together, at most %d are allowed", total, maxCaseEvents)
	}
}

// step checks a step and returns how many events it makes.
func (v *validator) step(field string, s Step, a Aggregate) int {
	v.offset(field+".at", s.At, maxWindow)
	v.offset(field+".every", s.Every, maxWindow)
	oneOf(v, field+".type", s.Type, kinds)
	v.number(field+".targets", s.Targets, 1, maxCaseEvents)
	v.number(field+".first", s.First, 1, maxCaseEvents)
	v.number(field+".times", s.Times, 1, maxCaseEvents)
	v.number(field+".actors", orOne(s.Actors), 1, maxCaseEvents)
	v.number(field+".first_actor", orOne(s.FirstActor), 1, maxCaseEvents)
	if a != InLockstep && (s.Actors != 0 || s.FirstActor != 0) {
		v.fail(field, "has actors, which goes with the aggregate lockstep only: the others look at one user")
	}
	return min(max(s.Times, 0), maxCaseEvents) * min(max(orOne(s.Actors), 1), maxCaseEvents)
}

func (v *validator) offset(field string, d, most Duration) {
	if d < 0 || d > most {
		v.fail(field, "must be from 0s to %s, not %s", most, d)
	}
}
