package account

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/meet5/backend/events"
)

// Bounds of a profile. Lengths are in characters (Unicode code points).
const (
	MaxDisplayName = 80
	MaxCity        = 80
	MaxAbout       = 2000
	// MinAge and MaxAge are in whole years.
	MinAge = 18
	MaxAge = 120
	// MinPassword and MaxPassword are in characters, too.
	MinPassword = 8
	MaxPassword = 128
)

// Fault is a field that is not as it must be.
type Fault struct {
	Field   string
	Message string
}

type faults []Fault

// add notes a message for a field; an empty one is none.
func (f *faults) add(field, message string) {
	if message != "" {
		*f = append(*f, Fault{field, message})
	}
}

// Registration is what somebody gives to have an account. City and About may be
// empty.
type Registration struct {
	Handle      string
	Email       string
	Password    string
	DisplayName string
	BirthDate   string // YYYY-MM-DD
	City        string
	About       string
}

// Personal returns the personal data of the account to be, tidied up: composed
// (NFC), without blanks around single lines. Faults say what does not fit.
func (r Registration) Personal(now time.Time) (events.Personal, []Fault) {
	var f faults
	f.add("handle", checkHandle(r.Handle))
	email, ok := parseEmail(r.Email)
	if !ok {
		f.add("email", emailRule)
	}
	f.add("password", CheckPassword(r.Password))
	return r.personal(email, now, f)
}

// PersonalOutside is Personal for an account that signs in elsewhere: it has no
// password, and an e-mail that does not fit is left out.
func (r Registration) PersonalOutside(now time.Time) (events.Personal, []Fault) {
	var f faults
	f.add("handle", checkHandle(r.Handle))
	email, _ := parseEmail(r.Email)
	return r.personal(email, now, f)
}

func (r Registration) personal(email string, now time.Time, f faults) (events.Personal, []Fault) {
	p := events.Personal{Handle: r.Handle, Email: email}
	p.DisplayName = f.line("display_name", r.DisplayName, 1, MaxDisplayName)
	f.add("birth_date", checkBirthDate(r.BirthDate, now))
	p.BirthDate = r.BirthDate
	p.City = f.line("city", r.City, 0, MaxCity)
	p.About = f.text("about", r.About, MaxAbout)
	return p, f
}

// Change is what is to become of a profile; nil leaves a field as it is.
type Change struct {
	DisplayName *string
	BirthDate   *string
	City        *string
	About       *string
}

// Apply returns the profile as it is after the change, tidied up as by
// Registration.Personal.
func (c Change) Apply(p events.Personal, now time.Time) (events.Personal, []Fault) {
	var f faults
	if c.DisplayName != nil {
		p.DisplayName = f.line("display_name", *c.DisplayName, 1, MaxDisplayName)
	}
	if c.BirthDate != nil {
		f.add("birth_date", checkBirthDate(*c.BirthDate, now))
		p.BirthDate = *c.BirthDate
	}
	if c.City != nil {
		p.City = f.line("city", *c.City, 0, MaxCity)
	}
	if c.About != nil {
		p.About = f.text("about", *c.About, MaxAbout)
	}
	return p, f
}

// ImportedProfile checks the little that an imported account has.
func ImportedProfile(handle, displayName string) (events.Personal, []Fault) {
	var f faults
	f.add("handle", checkHandle(handle))
	p := events.Personal{Handle: handle}
	p.DisplayName = f.line("display_name", displayName, 1, MaxDisplayName)
	return p, f
}

// CheckPassword returns what a password must be, empty if this one is.
func CheckPassword(s string) string {
	if n := utf8.RuneCountInString(s); n < MinPassword || n > MaxPassword {
		return "must have 8 to 128 characters"
	}
	return ""
}

// line takes a text of one line.
func (f *faults) line(field, s string, least, most int) string { //nolint:unparam // both bounds belong to the field
	s = strings.TrimSpace(norm.NFC.String(s))
	f.add(field, checkText(s, least, most, ""))
	return s
}

// text takes a text that may have line breaks.
func (f *faults) text(field, s string, most int) string {
	s = norm.NFC.String(s)
	f.add(field, checkText(s, 0, most, "\n"))
	return s
}

func checkText(s string, least, most int, allowed string) string {
	if n := utf8.RuneCountInString(s); n < least || n > most {
		if least == 0 {
			return "must have at most " + strconv.Itoa(most) + " characters"
		}
		return "must have " + strconv.Itoa(least) + " to " + strconv.Itoa(most) + " characters"
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(allowed, r) && unruly(r) }) {
		if allowed != "" {
			return "must not have control characters other than line breaks (\\n)"
		}
		return "must not have control characters or line breaks"
	}
	return ""
}

// unruly says that a character would do something to the text around it, or make
// a name look like another: controls, line separators, and changes of direction.
// Joiners are not among them: families of emoji, and several scripts, need them.
func unruly(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' ||
		r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}

const birthDateRule = "must be a date such as 1990-12-31"

func checkBirthDate(s string, now time.Time) string {
	age, ok := Age(s, now)
	switch {
	case !ok:
		return birthDateRule
	case age < MinAge:
		return "must be at least 18 years ago"
	case age > MaxAge:
		return "must be at most 120 years ago"
	}
	return ""
}

// Age is how many whole years lie between a birth date (YYYY-MM-DD) and now, in
// UTC; false if that is no date. Who was born on 29 February turns a year older
// on 1 March in other years.
func Age(birthDate string, now time.Time) (int, bool) {
	born, err := time.Parse(time.DateOnly, birthDate)
	if err != nil {
		return 0, false
	}
	now = now.UTC()
	age := now.Year() - born.Year()
	if now.Month() < born.Month() || now.Month() == born.Month() && now.Day() < born.Day() {
		age--
	}
	return age, true
}
