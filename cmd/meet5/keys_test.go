package main_test

import (
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meet5/backend/cmd/backend"
)

func TestKeysAreListedAndRotated(t *testing.T) {
	t.Parallel()
	where := backend.Where{Data: filepath.Join(t.TempDir(), "data")}
	if e := command(t, "keys", "list", "--data", where.Data); e.code != 2 || !strings.Contains(e.err, "there is no data") {
		t.Errorf("without data: %+v", e)
	}
	b, err := backend.OpenTools(t.Context(), where, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	states := func(args ...string) string {
		t.Helper()
		var lines []struct{ ID, State string }
		if err := json.Unmarshal([]byte(must(t, append(args, "--json", "--data", where.Data)...).out), &lines); err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, l := range lines {
			all = append(all, l.State)
		}
		return strings.Join(all, " ")
	}
	for _, step := range []struct {
		args []string
		want string
	}{
		{[]string{"keys", "list"}, "signing"},
		{[]string{"keys", "rotate"}, "signing next"},
		{[]string{"keys", "rotate"}, "signing next"},
		{[]string{"keys", "list"}, "signing next"},
		{[]string{"keys", "rotate", "--compromised"}, "signing"},
	} {
		if got := states(step.args...); got != step.want {
			t.Errorf("%v: %s, want %s", step.args, got, step.want)
		}
	}
	if out := must(t, "keys", "list", "--data", where.Data).out; !strings.Contains(out, "signing") || strings.Contains(out, "seed") {
		t.Errorf("list: %s", out)
	}
}
