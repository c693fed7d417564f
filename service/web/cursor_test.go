package web_test

import (
	"strings"
	"testing"

	"github.com/meet5/backend/service/web"
)

type position struct {
	At  int64  `json:"at"`
	Key string `json:"key"`
}

func TestACursorGoesOnWhereItWasMade(t *testing.T) {
	want := position{At: 17, Key: "é/+"}
	var got position
	if err := web.DecodeCursor("visitors/1", web.EncodeCursor("visitors/1", want), &got); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestABadCursorIsInvalidAndNamed(t *testing.T) {
	good := web.EncodeCursor("visitors/1", position{At: 17})
	for name, cursor := range map[string]string{
		"one of another listing":   web.EncodeCursor("visits/1", position{At: 17}),
		"one of another user":      web.EncodeCursor("visitors/2", position{At: 17}),
		"one of another shape":     web.EncodeCursor("visitors/1", map[string]int{"page": 2}),
		"one of another type":      web.EncodeCursor("visitors/1", 5),
		"a damaged one":            "A" + good[1:],
		"a shortened one":          good[:len(good)-4],
		"a lengthened one":         good + "AAAA",
		"an empty one":             "",
		"a short one":              "AAAA",
		"one that is not base64":   "%%%",
		"one in the other base64":  strings.ReplaceAll(good+"==", "-", "+"),
		"one with a line break":    good[:4] + "\n" + good[4:],
		"one that is far too long": strings.Repeat("A", 1<<20),
		"one from somewhere else":  "eyJhbGciOiJub25lIn0",
	} {
		t.Run(name, func(t *testing.T) {
			var got position
			err := web.DecodeCursor("visitors/1", cursor, &got)
			assertFaults(t, err, "cursor is not a cursor of this listing; start again without one")
		})
	}
}

func TestKindAndContentOfACursorDoNotRunTogether(t *testing.T) {
	var n int
	if err := web.DecodeCursor("a1", web.EncodeCursor("a", 12), &n); err == nil {
		t.Errorf("decoded as %d", n)
	}
}

func FuzzDecodeCursor(f *testing.F) {
	f.Add("visitors/1", web.EncodeCursor("visitors/1", position{At: 17, Key: "a"}))
	f.Add("visitors/1", web.EncodeCursor("visits/1", position{At: 17, Key: "a"}))
	f.Add("", "")
	f.Fuzz(func(t *testing.T, kind, cursor string) {
		var got position
		if err := web.DecodeCursor(kind, cursor, &got); err != nil {
			if p := mustBeProblem(t, err); p.Errors[0].Field != "cursor" {
				t.Fatalf("the error names %s", p.Errors[0].Field)
			}
			return
		}
		var again position
		if err := web.DecodeCursor(kind, web.EncodeCursor(kind, got), &again); err != nil || again != got {
			t.Fatalf("%+v became %+v, %v", got, again, err)
		}
	})
}
