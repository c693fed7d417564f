package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/cmd/bench"
	"github.com/meet5/backend/events/servertest"
)

// tiny is the least that there is to do.
func tiny(t *testing.T, w bench.Work) bench.Options {
	t.Helper()
	o := bench.Options{
		Names: []string{w.Name}, Rounds: 2, For: 20 * time.Millisecond, Scale: 0.001, Folder: t.TempDir(),
		Prefix: "bench-" + uuid.NewString()[:8],
	}
	if w.Mongo {
		o.Mongo = servertest.Mongo(t)
	}
	if w.AMQP {
		o.AMQP = servertest.AMQP(t)
	}
	return o
}

func TestEveryWorkMeasuresBothSidesAndLeavesNothing(t *testing.T) {
	for _, w := range bench.Works() {
		t.Run(w.Name, func(t *testing.T) {
			o := tiny(t, w)
			results, err := bench.Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if len(results) != len(w.Figures) {
				t.Fatalf("%d results, want one for each of %d figures", len(results), len(w.Figures))
			}
			for i, r := range results {
				if r.Work != w.Name || r.Figure != w.Figures[i].Name || len(r.Turns) != o.Rounds {
					t.Errorf("result %d is %+v, want %d turns of %q", i, r, o.Rounds, w.Figures[i].Name)
				}
				for _, p := range r.Turns {
					if !(p.Ours > 0) || math.IsInf(p.Ours, 0) || w.Limit != "" && !(p.Limit > 0) || math.IsInf(p.Limit, 0) {
						t.Errorf("%s: a turn measured %+v", r.Title(), p)
					}
				}
				if (r.Met != nil) != (w.Figures[i].Target != bench.Target{}) {
					t.Errorf("%s: met is %v with target %v", r.Title(), r.Met, r.Target)
				}
			}
			nothingLeft(t, w, o)
		})
	}
}

// nothingLeft fails the test if anything is that the work has made.
func nothingLeft(t *testing.T, w bench.Work, o bench.Options) {
	t.Helper()
	if left, err := os.ReadDir(o.Folder); err != nil || len(left) > 0 {
		t.Errorf("left in the folder: %v (%v)", left, err)
	}
	if !w.Mongo {
		return
	}
	client, err := mongo.Connect(options.Client().ApplyURI(o.Mongo))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(context.Background())
	names, err := client.ListDatabaseNames(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasPrefix(n, o.Prefix) {
			t.Errorf("database %s is left", n)
		}
	}
}

func TestAWorkThatIsCutShortLeavesNothing(t *testing.T) {
	for _, name := range []string{"append", "bus-publish", "freshness", "append-embedded"} {
		t.Run(name, func(t *testing.T) {
			w := bench.Works()[slices.IndexFunc(bench.Works(), func(w bench.Work) bool { return w.Name == name })]
			o := tiny(t, w)
			o.Rounds = 100
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o.Progress = func(_ string, done, _ int) {
				if done == 1 {
					cancel()
				}
			}
			results, err := bench.Run(ctx, o)
			if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "delete") || len(results) > 0 {
				t.Fatalf("%v with %d results, want nothing but that it was cancelled", err, len(results))
			}
			nothingLeft(t, w, o)
		})
	}
}

func TestOptionsThatMakeNoSenseAreNamed(t *testing.T) {
	good := bench.Options{Rounds: 1, For: time.Second, Scale: 1}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*bench.Options){
		"rounds":         func(o *bench.Options) { o.Rounds = 0 },
		"for":            func(o *bench.Options) { o.For = -1 },
		"scale":          func(o *bench.Options) { o.Scale = 2 },
		`work "apend"`:   func(o *bench.Options) { o.Names = []string{"append", "apend"} },
		`work "append["`: func(o *bench.Options) { o.Names = []string{"append["} },
	} {
		o := good
		change(&o)
		if _, err := bench.Run(t.Context(), o); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%v, want a fault of %s", err, field)
		}
	}
}

func TestLongWorksRunOnlyWhenTheyAreMeant(t *testing.T) {
	chosen := func(all bool, names ...string) (run, lacking string) {
		o := bench.Options{Names: names, All: all}
		r, l := o.Chosen()
		list := func(works []bench.Work) string {
			names := make([]string, len(works))
			for i, w := range works {
				names[i] = w.Name
			}
			return strings.Join(names, " ")
		}
		return list(r), list(l)
	}
	for _, c := range []struct {
		all     bool
		names   []string
		run     string
		lacking string
	}{
		{false, []string{"*embedded"}, "append-embedded read-embedded", ""},
		{true, []string{"*embedded"}, "append-embedded read-embedded growth-embedded", ""},
		{false, []string{"growth-embedded"}, "growth-embedded", ""},
		{false, []string{"read*", "bus-consume"}, "read-embedded", "read bus-consume"},
	} {
		if run, lacking := chosen(c.all, c.names...); run != c.run || lacking != c.lacking {
			t.Errorf("%v (all: %v) runs %q and lacks servers for %q, want %q and %q", c.names, c.all, run, lacking, c.run, c.lacking)
		}
	}
	if run, _ := chosen(false); strings.Contains(run, "growth") {
		t.Errorf("without names, %q run", run)
	}
}

// embedded runs two short works once for the tests of what is written about them.
var embedded = sync.OnceValues(func() ([]bench.Result, error) {
	dir, err := os.MkdirTemp("", "bench-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return bench.Run(context.Background(), bench.Options{
		Names: []string{"append-embedded", "read-embedded"}, Rounds: 3, For: time.Millisecond, Scale: 0.001, Folder: dir,
	})
})

func TestAResultIsMadeOfItsTurns(t *testing.T) {
	results, err := embedded()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		var ours, spread []float64
		for _, p := range r.Turns {
			ours = append(ours, p.Ours)
			if r.Limit > 0 {
				spread = append(spread, p.Ours/p.Limit)
			} else {
				spread = append(spread, p.Ours)
			}
		}
		slices.Sort(ours)
		if r.Ours != ours[1] || r.Low != slices.Min(spread) || r.High != slices.Max(spread) || r.Limit > 0 && r.Ratio != r.Ours/r.Limit {
			t.Errorf("%+v does not follow from its turns", r)
		}
	}
}

func TestResultsAreWrittenInEveryForm(t *testing.T) {
	results, err := embedded()
	if err != nil {
		t.Fatal(err)
	}
	var table, markdown bytes.Buffer
	if err := errors.Join(bench.WriteTable(&table, results), bench.WriteMarkdown(&markdown, results)); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(table.String()), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "work") || !strings.HasPrefix(lines[1], "append-embedded  ") {
		t.Errorf("the table is\n%s", table.String())
	}
	for i, l := range strings.Split(strings.TrimSpace(markdown.String()), "\n") {
		if strings.Count(l, "|") != 8 {
			t.Errorf("line %d of the Markdown has other columns: %s", i, l)
		}
	}
	b, err := json.Marshal(results)
	var back []bench.Result
	if err == nil {
		err = json.Unmarshal(b, &back)
	}
	if err != nil || len(back) != 2 || back[0].Ratio != results[0].Ratio || back[1].Met == nil {
		t.Errorf("as JSON: %s (%v)", b, err)
	}
}

func TestAFolderThatIsNotThereIsAnError(t *testing.T) {
	_, err := bench.Run(t.Context(), bench.Options{
		Names: []string{"read-embedded"}, Rounds: 1, For: time.Millisecond, Scale: 0.001, Folder: filepath.Join(t.TempDir(), "none"),
	})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "read-embedded") {
		t.Errorf("%v, want that the folder does not exist, and for which work", err)
	}
}
