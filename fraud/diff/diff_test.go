package diff_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/meet5/backend/fraud/diff"
)

func TestADiffShowsWhatChangedAndALittleAround(t *testing.T) {
	old := "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\n"
	fresh := strings.NewReplacer("e\n", "E\n", "l\n", "", "m\n", "m\nn\n").Replace(old)
	want := `--- one
+++ two
@@ -2,12 +2,12 @@
 b
 c
 d
-e
+E
 f
 g
 h
 i
 j
 k
-l
 m
+n
`
	if got := diff.Unified("one", "two", old, fresh); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := diff.Unified("one", "two", old, old); got != "" {
		t.Errorf("of equal texts: %s", got)
	}
	if got, want := diff.Unified("one", "two", "", "a\n"), "--- one\n+++ two\n@@ -0,0 +1,1 @@\n+a\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What a patch makes of the old text is the new one.
func TestADiffAppliedToTheOldTextIsTheNewOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", ""}), 0, 40)
		old, fresh := lines.Draw(t, "old"), lines.Draw(t, "new")
		text := func(lines []string) string { return strings.Join(append(slices.Clone(lines), "end"), "\n") + "\n" }
		patch := diff.Unified("o", "n", text(old), text(fresh))
		got := apply(t, strings.Split(strings.TrimSuffix(text(old), "\n"), "\n"), patch)
		if want := strings.Split(strings.TrimSuffix(text(fresh), "\n"), "\n"); !slices.Equal(got, want) {
			t.Fatalf("%q, want %q, by\n%s", got, want, patch)
		}
	})
}

func apply(t *rapid.T, old []string, patch string) (out []string) {
	at := 0 // in old
	for i, l := range strings.Split(patch, "\n") {
		switch {
		case i < 2 || l == "":
		case strings.HasPrefix(l, "@@"):
			var first, n, newFirst, newN int
			if _, err := fmt.Sscanf(l, "@@ -%d,%d +%d,%d @@", &first, &n, &newFirst, &newN); err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				first++
			}
			out = append(out, old[at:first-1]...)
			at = first - 1
			if newN > 0 && len(out) != newFirst-1 {
				t.Fatalf("%s begins at new line %d", l, len(out)+1)
			}
		case l[0] == '+':
			out = append(out, l[1:])
		default:
			if old[at] != l[1:] {
				t.Fatalf("line %d is %q, not %q", at, old[at], l[1:])
			}
			if at++; l[0] == ' ' {
				out = append(out, l[1:])
			}
		}
	}
	return append(out, old[at:]...)
}
