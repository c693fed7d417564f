package account_test

import (
	"strings"
	"testing"

	"github.com/meet5/backend/user/account"
)

func TestHandlesFoldToLowerCase(t *testing.T) {
	for given, want := range map[string]string{
		"anna": "anna", "Anna": "anna", "ANNA": "anna", "a1_": "a1_", "0.-": "0.-",
		"A" + strings.Repeat("b", 29): "a" + strings.Repeat("b", 29),
	} {
		if got, ok := account.FoldHandle(given); !ok || got != want {
			t.Errorf("FoldHandle(%q) = %q, %v, want %q", given, got, ok, want)
		}
	}
}

func TestWhatIsNoHandleIsRefused(t *testing.T) {
	for _, given := range []string{
		"", "ab", strings.Repeat("a", 31), "_anna", ".anna", "-anna", "an na", "änna", "anna@home", "an\x00na",
		"anna\n", "ａｎｎａ", "an/na", "\xffabc",
	} {
		if got, ok := account.FoldHandle(given); ok {
			t.Errorf("FoldHandle(%q) = %q, want it refused", given, got)
		}
	}
}

func TestEmailsOfOnePersonFoldToOneName(t *testing.T) {
	for _, same := range [][]string{
		{"anna@example.org", "Anna@Example.ORG", "ANNA@EXAMPLE.ORG"},
		{"stra\u00dfe@example.org", "STRASSE@example.org", "Stra\u1e9ee@example.org"},
		{"r\u00e9my@example.org", "re\u0301my@example.org", "R\u00c9MY@example.org", "RE\u0301MY@example.org"},
		{"\u03c3\u03c2@example.org", "\u03a3\u03a3@example.org"},
		{"first.last+tag@sub.example.co.uk", "First.Last+Tag@Sub.Example.Co.UK"},
	} {
		want, ok := account.FoldEmail(same[0])
		if !ok {
			t.Fatalf("FoldEmail(%q) is refused", same[0])
		}
		for _, other := range same[1:] {
			if got, ok := account.FoldEmail(other); !ok || got != want {
				t.Errorf("FoldEmail(%q) = %q, %v, want %q as of %q", other, got, ok, want, same[0])
			}
		}
	}
}

func TestEmailsOfTwoPeopleStayApart(t *testing.T) {
	seen := make(map[string]string)
	for _, given := range []string{
		"anna@example.org", "anna@example.com", "an.na@example.org", "anna+1@example.org", "ánna@example.org", "bnna@example.org",
	} {
		got, ok := account.FoldEmail(given)
		if !ok {
			t.Errorf("FoldEmail(%q) is refused", given)
		}
		if other, taken := seen[got]; taken {
			t.Errorf("%q and %q fold to %q", given, other, got)
		}
		seen[got] = given
	}
}

func TestWhatIsNoEmailIsRefused(t *testing.T) {
	for _, given := range []string{
		"", "anna", "@example.org", "anna@", "anna@@example.org", "a@b@example.org", "Anna <anna@example.org>",
		"<anna@example.org>", "anna@example.org (home)", " anna@example.org", "anna@example.org ", "an na@example.org",
		`"an na"@example.org`, "anna@example..org", ".anna@example.org", "anna.@example.org", "anna@example.org,bob@example.org",
		"an\u200bna@example.org", "anna@exam\u202eple.org", "anna\n@example.org", "anna@example.org\r\nBcc: bob@example.org", "an\x00na@example.org",
		"\xff@example.org", "an\ufffdna@example.org",
		strings.Repeat("a", 65) + "@example.org",
		"a@" + strings.Repeat("b", 253),
	} {
		if got, ok := account.FoldEmail(given); ok {
			t.Errorf("FoldEmail(%q) = %q, want it refused", given, got)
		}
	}
	if _, ok := account.FoldEmail(strings.Repeat("a", 64) + "@" + strings.Repeat("b", 189)); !ok {
		t.Error("an address of 254 bytes is refused")
	}
}

func TestATidyEmailKeepsItsCase(t *testing.T) {
	if got := account.TidyEmail("Re\u0301my@Example.org"); got != "R\u00e9my@Example.org" {
		t.Errorf("TidyEmail = %q", got)
	}
	if got := account.TidyEmail("nobody"); got != "" {
		t.Errorf("TidyEmail of no address = %q", got)
	}
}

func FuzzFoldingAnEmailTwiceChangesNothing(f *testing.F) {
	f.Add("Anna@example.org")
	f.Add("STRA\u1e9eE@\u0130.org")
	f.Add("\u0345\u03b1@x")
	f.Fuzz(func(t *testing.T, s string) {
		once, ok := account.FoldEmail(s)
		if !ok {
			return
		}
		// Folding may make an address longer than an address may be.
		if twice, ok := account.FoldEmail(once); ok && twice != once {
			t.Errorf("%q folds to %q, and that to %q", s, once, twice)
		}
	})
}
