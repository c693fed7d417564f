package rule_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/meet5/backend/fraud/rule"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestFaultsSayWhatIsWrongAndWhere(t *testing.T) {
	files, err := filepath.Glob("testdata/faults/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			rules, err := rule.Parse(text)
			if err == nil {
				t.Fatalf("it was read: %+v", rules)
			}
			if _, ok := errors.AsType[rule.Faults](err); !ok {
				t.Errorf("the error is no Faults: %v", err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

const small = `id: a
title: A
events: [like, visit]
window: {sliding: 10m}
aggregate: paired_distinct
threshold: 3
score: 50
`

func parseOne(t testing.TB, text string) rule.Rule {
	t.Helper()
	rules, err := rule.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(rules) != 1 {
		t.Fatalf("%d rules, want 1", len(rules))
	}
	return rules[0]
}

func TestWhatIsLeftOutHasItsDefault(t *testing.T) {
	got := parseOne(t, small+"cases:\n- {name: n, history: [{at: 1m, type: visit, targets: 4}], expect: {fires_at: 61s}}\n")
	want := rule.Rule{
		ID: "a", Title: "A", Key: rule.KeyActor, Events: []rule.Kind{rule.Visit, rule.Like},
		Window: rule.Window{Sliding: rule.Duration(10 * time.Minute)}, Aggregate: rule.PairedDistinct, Reading: rule.Both,
		Threshold: 3, Score: 50, Effect: rule.Flag, Mode: rule.Draft,
		Cases: []rule.Case{{
			Name:    "n",
			History: []rule.Step{{At: rule.Duration(time.Minute), Type: rule.Visit, Targets: 4, First: 1, Times: 4}},
			Expect:  rule.Expect{FiresAt: []rule.Duration{rule.Duration(61 * time.Second)}},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rule (-want +got):\n%s", diff)
	}
}

func TestATextMayHoldSeveralRules(t *testing.T) {
	rules, err := rule.Parse([]byte("# first\n" + small + "---\n" + strings.Replace(small, "id: a", "id: b", 1) + "---\n"))
	if err != nil || len(rules) != 2 || rules[1].ID != "b" {
		t.Errorf("%+v, %v", rules, err)
	}
}

func TestTheVersionFollowsFromTheContent(t *testing.T) {
	base := parseOne(t, small)
	if v := base.Version(); len(v) != 16 || v != "4d0a27ec3b5d4f33" {
		t.Errorf("version %q: versions of stored rules must never change", v)
	}
	for name, text := range map[string]string{
		"mode":          small + "mode: live\n",
		"cases":         small + "cases: [{name: n, history: [{at: 1m, type: visit}], expect: silent}]\n",
		"order":         strings.Replace(small, "[like, visit]", "[visit, like]", 1),
		"default given": small + "reading: both\nkey: actor\neffect: flag\n",
		"spelling":      strings.Replace(small, "10m", "600s", 1),
		"json":          `{"score": 50, "id":"a","title":"A","events":["like","visit"],"window":{"sliding":"10m"},"aggregate":"paired_distinct","threshold":3}`,
	} {
		if parseOne(t, text).Version() != base.Version() {
			t.Errorf("%s changes the version", name)
		}
	}
	locked := strings.Replace(small, "paired_distinct", "lockstep", 1) + "lockstep: {targets: 2}\n"
	for name, text := range map[string]string{
		"threshold": strings.Replace(small, "threshold: 3", "threshold: 4", 1),
		"score":     strings.Replace(small, "score: 50", "score: 51", 1),
		"window":    strings.Replace(small, "sliding: 10m", "sliding: 11m", 1),
		"reading":   small + "reading: each\n",
		"effect":    small + "effect: flag_and_mark\n",
		"title":     strings.Replace(small, "title: A", "title: B", 1),
		"where":     small + "where: {hour: {from: 0, until: 6}}\n",
		"expiry":    small + "time_to_live: 30d\n",
		"lockstep":  locked,
		"of more":   strings.Replace(locked, "targets: 2", "targets: 3", 1),
		"anchor":    strings.Replace(small, "sliding: 10m", "since_first_event: 10m", 1),
	} {
		if parseOne(t, text).Version() == base.Version() {
			t.Errorf("%s does not change the version", name)
		}
	}
}

func TestBigAndDeepTextsAreRefusedAtOnce(t *testing.T) {
	n := rule.MaxBytes
	for name, text := range map[string]string{
		"too big":    strings.Repeat("#", n+1),
		"keys":       strings.Repeat("a: 1\n", n/5),
		"brackets":   strings.Repeat("[", n),
		"braces":     strings.Repeat("{a: ", n/4),
		"dashes":     strings.Repeat("- ", n/2),
		"questions":  strings.Repeat("? ", n/2),
		"colons":     strings.Repeat("a: ", n/3),
		"documents":  strings.Repeat("---\n", n/4),
		"one word":   strings.Repeat("a", n),
		"quoted":     `"` + strings.Repeat(`\u0041`, n/6-1) + `"`,
		"long title": strings.Replace(small, "title: A", "title: "+strings.Repeat("A", n/2), 1),
		"long name":  strings.Repeat("a", n/2) + ": 1",
		"long id":    strings.Replace(small, "id: a", "id: "+strings.Repeat("a-", 100)+"b", 1),
	} {
		_, err := rule.Parse([]byte(text))
		if err == nil {
			t.Errorf("%s: it was read", name)
			continue
		}
		if len(err.Error()) > 20_000 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
}

// drawRule draws a valid rule.
func drawRule(t *rapid.T) rule.Rule {
	r := rule.Rule{
		ID:          rapid.StringMatching(`[a-z0-9]{1,10}(-[a-z0-9]{1,10}){0,3}`).Draw(t, "id"),
		Title:       rapid.StringMatching(`[ -~äöü€:#'"]{1,40}`).Draw(t, "title"),
		Description: rapid.StringMatching(`([ -~äß<>&]{0,30}\n){0,3}`).Draw(t, "description"),
		Key:         rapid.SampledFrom([]rule.Key{rule.KeyActor, rule.KeyTarget}).Draw(t, "key"),
		Aggregate: rapid.SampledFrom([]rule.Aggregate{
			rule.Count, rule.Distinct, rule.PairedDistinct, rule.Burst, rule.InLockstep, rule.InRatio, rule.InSequence, rule.InRegularity,
		}).Draw(t, "aggregate"),
		Events:    rapid.SampledFrom([][]rule.Kind{{rule.Visit}, {rule.Like, rule.Unlike}, {rule.Visit, rule.Like, rule.Unlike}}).Draw(t, "events"),
		Threshold: rapid.IntRange(1, rule.MaxThreshold).Draw(t, "threshold"),
		Score:     rapid.IntRange(0, rule.MaxScore).Draw(t, "score"),
		Effect:    rapid.SampledFrom([]rule.Effect{rule.Flag, rule.FlagAndMark}).Draw(t, "effect"),
		Mode:      rapid.SampledFrom([]rule.Mode{rule.Draft, rule.Shadow, rule.Live, rule.Retired}).Draw(t, "mode"),
	}
	length := drawDuration(t, int64(time.Second), int64(300*24*time.Hour))
	two := []rule.Kind{rule.Like, rule.Unlike}
	switch r.Aggregate {
	case rule.PairedDistinct:
		r.Events = []rule.Kind{rule.Visit, rule.Like}
		r.Reading = rapid.SampledFrom([]rule.Reading{rule.Both, rule.Each}).Draw(t, "reading")
	case rule.Burst:
		r.Key = rule.KeyTarget
	case rule.InLockstep:
		r.Key, r.Events = rule.KeyActor, []rule.Kind{rule.Visit, rule.Like}
		r.Threshold = rapid.IntRange(2, 128).Draw(t, "accounts")
		r.Lockstep = &rule.Lockstep{Targets: rapid.IntRange(2, 32).Draw(t, "locked targets")}
	case rule.InRatio:
		r.Events = two
		r.Ratio = &rule.Ratio{Of: rule.Unlike, Per: rule.Like, Volume: rapid.IntRange(2, 10_000).Draw(t, "volume")}
	case rule.InSequence:
		r.Events = two
		r.Sequence = &rule.Sequence{First: rule.Like, Then: rule.Unlike, Within: drawDuration(t, int64(time.Millisecond), int64(24*time.Hour))}
	case rule.InRegularity:
		r.Threshold = rapid.IntRange(5, 1000).Draw(t, "gaps")
		r.Regularity = &rule.Regularity{Variation: rapid.IntRange(0, 100).Draw(t, "variation")}
		length = drawDuration(t, int64(time.Second), int64(24*time.Hour))
	}
	switch window := rapid.IntRange(0, 2).Draw(t, "window"); {
	case window == 0 || r.Aggregate == rule.InLockstep:
		r.Window.Sliding = length
		if r.Sequence != nil {
			r.Sequence.Within = min(r.Sequence.Within, length)
		}
	case window == 1 && r.Key == rule.KeyActor:
		r.Window.SinceAccountCreation = length
	default:
		r.Window.SinceFirstEvent = length
	}
	if r.Aggregate == rule.Burst || rapid.Bool().Draw(t, "where") {
		r.Where.AccountAge.AtLeast = drawDuration(t, 0, int64(time.Hour))
		r.Where.AccountAge.Below = drawDuration(t, int64(2*time.Hour), int64(3*time.Hour))
		r.Where.Hour = rapid.SampledFrom([]rule.Hours{{}, {From: 0, Until: 24 - 1}, {From: 22, Until: 4}}).Draw(t, "hour")
		if r.Aggregate == rule.Count && r.Key == rule.KeyActor {
			r.Where.Target = rapid.SampledFrom([]rule.Familiarity{"", rule.New, rule.Repeated}).Draw(t, "familiarity")
		}
	}
	if rapid.Bool().Draw(t, "expires") {
		r.TimeToLive = drawDuration(t, int64(24*time.Hour), int64(300*24*time.Hour))
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "cases") {
		c := rule.Case{Name: string(rune('a' + i)), AccountAge: drawDuration(t, 0, int64(time.Hour))}
		for range rapid.IntRange(1, 3).Draw(t, "steps") {
			s := rule.Step{
				At: drawDuration(t, 0, int64(time.Hour)), Type: rule.Like, Every: drawDuration(t, 0, int64(time.Hour)),
				Targets: rapid.IntRange(1, 50).Draw(t, "targets"), First: rapid.IntRange(1, 50).Draw(t, "first"), Times: rapid.IntRange(1, 50).Draw(t, "times"),
			}
			if r.Aggregate == rule.InLockstep {
				s.Actors, s.FirstActor = rapid.IntRange(0, 50).Draw(t, "actors"), rapid.IntRange(0, 50).Draw(t, "first actor")
			}
			c.History = append(c.History, s)
		}
		at := rule.Duration(0)
		for range rapid.IntRange(0, 3).Draw(t, "fires") {
			at += drawDuration(t, 0, int64(time.Hour))
			c.Expect.FiresAt = append(c.Expect.FiresAt, at)
		}
		r.Cases = append(r.Cases, c)
	}
	return r
}

func drawDuration(t *rapid.T, least, most int64) rule.Duration {
	d := rapid.Int64Range(least, most).Draw(t, "duration")
	return rule.Duration(d - d%int64(time.Millisecond))
}

func TestARuleAsJSONIsReadBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawRule(t)
		if err := want.Validate(); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var plain rule.Rule
		if err := json.Unmarshal(text, &plain); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, plain); diff != "" {
			t.Fatalf("through encoding/json (-want +got):\n%s", diff)
		}
		read, err := rule.Parse(text)
		if err != nil || len(read) != 1 {
			t.Fatalf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, read[0]); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", text, diff)
		}
		if read[0].Version() != want.Version() {
			t.Fatal("the version differs")
		}
	})
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/faults/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	shipped, err := filepath.Glob("../rulebook/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, shipped...) {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, err := rule.Parse(text)
		if err != nil {
			if faults, ok := errors.AsType[rule.Faults](err); !ok || len(faults) == 0 {
				t.Fatalf("the error is no Faults: %v", err)
			}
			return
		}
		for _, r := range rules {
			if err := r.Validate(); err != nil {
				t.Fatalf("an invalid rule was read: %v", err)
			}
			again, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			read, err := rule.Parse(again)
			if err != nil || len(read) != 1 || cmp.Diff(r, read[0]) != "" {
				t.Fatalf("%s is not read back: %v", again, err)
			}
		}
	})
}
