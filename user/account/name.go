package account

import (
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Bounds of the names that an account is found by.
const (
	// MinHandle and MaxHandle bound a handle, in characters, all of them ASCII.
	MinHandle = 3
	MaxHandle = 30
	// MaxEmail bounds an e-mail address, in bytes: what SMTP can carry (RFC 5321,
	// 4.5.3.1.3, less the angle brackets).
	MaxEmail = 254
	// maxLocalPart is the same for what stands before the @ (4.5.3.1.1).
	maxLocalPart = 64
)

const (
	handleRule = "must be 3 to 30 of the characters A-Z, a-z, 0-9, '_', '.' and '-', and begin with a letter or a digit"
	emailRule  = "must be an e-mail address such as anna@example.org, of at most 254 bytes"
)

// checkHandle returns what a handle must be, empty if this one is. A handle never
// holds an @, so that a login is either a handle or an e-mail.
func checkHandle(s string) string {
	if len(s) < MinHandle || len(s) > MaxHandle {
		return handleRule
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && (c == '_' || c == '.' || c == '-'):
		default:
			return handleRule
		}
	}
	return ""
}

// FoldHandle returns what handles are compared by, and false if s is no handle.
func FoldHandle(s string) (string, bool) {
	if checkHandle(s) != "" {
		return "", false
	}
	return strings.ToLower(s), true // ASCII, as checked
}

// FoldEmail returns what e-mails are compared by: the whole address, composed
// (Unicode NFC) and with its case folded, the part before the @ included. It
// returns false if s is no address.
//
// Mail servers may tell Anna@ from anna@, but none in use does, and whoever could
// take the other spelling could pass for its owner.
func FoldEmail(s string) (string, bool) {
	s, ok := parseEmail(s)
	if !ok {
		return "", false
	}
	// Folding may leave a base letter and its mark apart.
	return norm.NFC.String(cases.Fold().String(s)), true
}

// TidyEmail returns an address as it is kept: composed (NFC), its case as given;
// empty if s is no address.
func TidyEmail(s string) string {
	s, _ = parseEmail(s)
	return s
}

// parseEmail returns the address in NFC: a bare address as net/mail reads it,
// without display name, comments, quotes or anything invisible.
func parseEmail(s string) (string, bool) {
	if len(s) > MaxEmail || !utf8.ValidString(s) {
		return "", false
	}
	s = norm.NFC.String(s)
	if len(s) > MaxEmail || strings.ContainsFunc(s, invisible) {
		return "", false
	}
	a, err := mail.ParseAddress(s)
	if err != nil || a.Name != "" || a.Address != s || strings.LastIndexByte(s, '@') > maxLocalPart {
		return "", false
	}
	return s, true
}

// invisible says that a character cannot be seen, or moves others about.
func invisible(r rune) bool {
	return unicode.In(r, unicode.C, unicode.Z) || r == utf8.RuneError
}
