package verify_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/cmd/dataset"
	"github.com/meet5/backend/cmd/verify"
	"github.com/meet5/backend/projections/memstore"
	"github.com/meet5/backend/projections/views"
)

// sample is a file's text, read by the program's own reader: fans who visit a
// star, more of them than a page of a list holds, and some other visits.
func sample(t *testing.T) []dataset.Row {
	t.Helper()
	var text strings.Builder
	text.WriteString("who,whom,at,kind\n")
	for i := range 2500 {
		fmt.Fprintf(&text, "fan%d,star,%d,visit\n", i, i)
	}
	text.WriteString("anna,ben,30,visit\nanna,ben,10,visit\nanna,ben,20,visit\nben,anna,5,visit\nben,anna,6,like\ncleo,dan,7,like\n")
	r, err := dataset.NewReader(strings.NewReader(text.String()), dataset.Columns{Actor: "who", Target: "whom", Time: "at", Type: "kind"}, dataset.Members{})
	if err != nil {
		t.Fatal(err)
	}
	var rows []dataset.Row
	for row, err := r.Next(); err == nil; row, err = r.Next() {
		rows = append(rows, row)
	}
	if len(rows) != 2506 {
		t.Fatalf("%d rows", len(rows))
	}
	return rows
}

func counted(rows []dataset.Row) verify.Visits {
	v := verify.Visits{}
	for _, r := range rows {
		v.Add(r)
	}
	return v
}

// stored are the read models of the rows' activities.
func stored(t *testing.T, rows []dataset.Row) views.Store {
	t.Helper()
	s := memstore.New()
	b := views.Batch{Partition: 3, First: 1, Last: uint64(len(rows))}
	kinds := map[activity.Kind]views.Kind{activity.Visit: views.Visited, activity.Like: views.Liked}
	for i, r := range rows {
		b.Changes = append(b.Changes, views.Change{Kind: kinds[r.Kind], Actor: r.Actor.ID, Target: r.Target.ID, At: r.At, Sequence: uint64(i) + 1})
	}
	if err := s.Apply(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReadModelsThatAgreeAreFoundTo(t *testing.T) {
	rows := sample(t)
	v := counted(rows)
	if v.Actors() != 2502 || v.Targets() != 3 || v.Comparisons() != 2508 {
		t.Errorf("%d actors, %d targets, %d comparisons", v.Actors(), v.Targets(), v.Comparisons())
	}
	told := 0
	n, err := v.Agree(t.Context(), stored(t, rows), func(s string) { t.Error(s) }, func() { told++ })
	if err != nil || n != 0 || told != v.Comparisons() {
		t.Errorf("%d faults, %v; told %d times", n, err, told)
	}
}

func TestWhatDiffersIsSaidOfWhom(t *testing.T) {
	rows := sample(t)
	name := func(s string) string { return dataset.MemberID(s).String() }
	at := func(text string) int {
		return slices.IndexFunc(rows, func(r dataset.Row) bool { return r.Actor.Name+" "+r.Target.Name == text })
	}
	for what, c := range map[string]struct {
		change func(rows []dataset.Row) []dataset.Row // of what is stored
		want   []string
	}{
		"a visitor is missing": {
			func(rows []dataset.Row) []dataset.Row { return slices.Delete(rows, at("fan7 star"), at("fan7 star")+1) },
			[]string{"visits of " + name("fan7") + ": 0 are listed, want 1", "visitors of " + name("star") + ": 2499 are listed, want 2500", "stats of " + name("star") + ": 2499 visits by 2499 visitors, want 2500 by 2500"},
		},
		"a visit is missing": {
			func(rows []dataset.Row) []dataset.Row { return slices.Delete(rows, at("anna ben")+1, at("anna ben")+2) },
			[]string{"visits of " + name("anna") + ": those with " + name("ben") + " are listed as 2 from 1970-01-01T00:00:20Z", "visitors of " + name("ben"), "stats of " + name("ben") + ": 2 visits by 1 visitors, want 3 by 1"},
		},
		"a visit has another time": {
			func(rows []dataset.Row) []dataset.Row {
				rows[at("ben anna")].At = rows[at("ben anna")].At.Add(time.Microsecond)
				return rows
			},
			[]string{"visits of " + name("ben") + ": those with " + name("anna") + " are listed as 1 from 1970-01-01T00:00:05.000001Z", "visitors of " + name("anna")},
		},
		"somebody else is listed": {
			func(rows []dataset.Row) []dataset.Row {
				rows[at("ben anna")].Target = rows[at("cleo dan")].Target
				return rows
			},
			[]string{"visits of " + name("ben") + ": those with " + name("dan"), "visitors of " + name("anna") + ": 0 are listed, want 1", "stats of " + name("anna") + ": 0 visits by 0 visitors, want 1 by 1"},
		},
	} {
		var said []string
		n, err := counted(rows).Agree(t.Context(), stored(t, c.change(slices.Clone(rows))), func(s string) { said = append(said, s) }, func() {})
		if err != nil || n != len(c.want) || len(said) != n {
			t.Errorf("%s: %d faults, want %d; %v", what, n, len(c.want), err)
		}
		for _, want := range c.want {
			if !slices.ContainsFunc(said, func(s string) bool { return strings.HasPrefix(s, want) }) {
				t.Errorf("%s: said is not %q but\n\t%s", what, want, strings.Join(said, "\n\t"))
			}
		}
	}
}

// failing are read models that cannot give one member's stats.
type failing struct {
	views.Store
	of uuid.UUID
}

func (f failing) Stats(ctx context.Context, user uuid.UUID) (views.Stats, error) {
	if user == f.of {
		return views.Stats{}, views.ErrUnavailable
	}
	return f.Store.Stats(ctx, user)
}

func TestReadModelsThatFailAreNoDifference(t *testing.T) {
	rows := sample(t)
	star := dataset.MemberID("star")
	n, err := counted(rows).Agree(t.Context(), failing{stored(t, rows), star}, func(s string) { t.Error(s) }, func() {})
	if !errors.Is(err, views.ErrUnavailable) || !strings.Contains(err.Error(), "stats of "+star.String()) || n != 0 {
		t.Errorf("%d faults, %v", n, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := counted(rows).Agree(ended, stored(t, rows), func(string) {}, func() {}); !errors.Is(err, context.Canceled) {
		t.Errorf("with its context ended: %d faults, %v", n, err)
	}
}
