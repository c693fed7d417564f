package ingest

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/backend"
)

// names are what sources call people, and what becomes of it.
var names = map[string]string{
	"Anna":                          "Anna",
	"  Anna Müller\t":               "Anna Müller",
	"line\nbreak":                   "line break",
	"\x00\x07":                      "otherwise",
	"":                              "otherwise",
	" \u2028\u202e ":                "otherwise",
	"right\u202eleft":               "right left",
	"not \xff UTF-8":                "not \ufffd UTF-8",
	strings.Repeat("x", 200):        strings.Repeat("x", 80),
	strings.Repeat("ü", 81):         strings.Repeat("ü", 80),
	strings.Repeat("\u0958", 80):    strings.Repeat("क\u093c", 40), // NFC writes it with two
	strings.Repeat("a", 79) + "  b": strings.Repeat("a", 79),
	"12345":                         "12345",
}

func TestADisplayNameIsOneThatAnAccountCanHave(t *testing.T) {
	for from, want := range names {
		if got := displayName(from, "otherwise"); got != want {
			t.Errorf("%q becomes %q, want %q", from, got, want)
		}
	}
}

func TestAccountsAreMadeOnceWhateverTheyAreCalled(t *testing.T) {
	b, err := backend.OpenTools(t.Context(), backend.Where{Data: t.TempDir()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	var accounts []Account
	for name := range names {
		accounts = append(accounts, Account{ID: uuid.New(), Name: name, JoinedAt: time.Now()})
	}
	for range 2 {
		if err := Accounts(t.Context(), b.User, accounts); err != nil {
			t.Fatal(err)
		}
		if head, err := b.Logs.User.Head(t.Context(), 0); err != nil || head != uint64(len(accounts)) {
			t.Errorf("%d registrations of %d accounts; %v", head, len(accounts), err)
		}
	}
}
