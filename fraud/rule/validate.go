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
	kinds      = []Kind{Visit, Like, Unlike}
	aggregates = []Aggregate{Count, Distinct, PairedDistinct}
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
	if r.Key == keyTarget {
		v.fail("key", "key target is not supported yet; use actor")
	} else {
		oneOf(v, "key", r.Key, []Key{KeyActor})
	}
	v.events(r)
	v.window(r.Window)
	if oneOf(v, "aggregate", r.Aggregate, aggregates) {
		switch {
		case r.Aggregate == PairedDistinct:
			oneOf(v, "reading", r.Reading, readings)
		case r.Reading != "":
			v.fail("reading", "belongs to the aggregate paired_distinct only; leave it out")
		}
	}
	v.number("threshold", r.Threshold, 1, MaxThreshold)
	v.number("score", r.Score, 0, MaxScore)
	oneOf(v, "effect", r.Effect, effects)
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
	sound := true
	for i, k := range r.Events {
		field := fmt.Sprintf("events[%d]", i)
		switch {
		case !oneOf(v, field, k, kinds):
			sound = false
		case slices.Index(r.Events, k) < i:
			v.fail(field, "%s is listed twice", k)
			sound = false
		}
	}
	if sound && r.Aggregate == PairedDistinct &&
		(len(r.Events) != 2 || !slices.Contains(r.Events, Visit) || !slices.Contains(r.Events, Like)) {
		v.fail("events", "must be visit and like for the aggregate paired_distinct")
	}
}

func (v *validator) window(w Window) {
	switch {
	case w.Sliding != 0 && w.SinceAccountCreation != 0:
		v.fail("window", "has both sliding and since_account_creation; keep one")
	case w.Sliding != 0:
		v.length("window.sliding", w.Sliding)
	case w.SinceAccountCreation != 0:
		v.length("window.since_account_creation", w.SinceAccountCreation)
	default:
		v.fail("window", "is missing; give {sliding: 10m} or {since_account_creation: 10m}")
	}
}

func (v *validator) length(field string, d Duration) {
	if d < minWindow || d > maxWindow {
		v.fail(field, "must be from %s to %s, not %s", minWindow, maxWindow, d)
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
		v.offset(field+".account_age", c.AccountAge)
		if len(c.History) == 0 || len(c.History) > maxSteps {
			v.fail(field+".history", "has %d steps, want 1 to %d", len(c.History), maxSteps)
		}
		for j, s := range c.History {
			total += v.step(fmt.Sprintf("%s.history[%d]", field, j), s)
		}
		for j, at := range c.Expect.FiresAt {
			place := fmt.Sprintf("%s.expect.fires_at[%d]", field, j)
			v.offset(place, at)
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
func (v *validator) step(field string, s Step) int {
	v.offset(field+".at", s.At)
	v.offset(field+".every", s.Every)
	oneOf(v, field+".type", s.Type, kinds)
	v.number(field+".targets", s.Targets, 1, maxCaseEvents)
	v.number(field+".first", s.First, 1, maxCaseEvents)
	v.number(field+".times", s.Times, 1, maxCaseEvents)
	return min(max(s.Times, 0), maxCaseEvents)
}

func (v *validator) offset(field string, d Duration) {
	if d < 0 || d > maxWindow {
		v.fail(field, "must be from 0s to %s, not %s", maxWindow, d)
	}
}
