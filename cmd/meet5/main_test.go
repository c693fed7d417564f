package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/events/servertest"
)

// Exit codes.
const (
	done   = 0
	failed = 1
	usage  = 2
)

// ended is a command that has ended.
type ended struct {
	code     int
	out, err string
}

// command runs the program to its end, with pipes for its output and without
// variables that it would read.
func command(t *testing.T, args ...string) ended {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, args...) //nolint:gosec // our own program
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MEET5_") })
	cmd.Stdout, cmd.Stderr = &out, &errOut
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ended{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// must runs a command that has to exit with 0.
func must(t *testing.T, args ...string) ended {
	t.Helper()
	e := command(t, args...)
	if e.code != done {
		t.Fatalf("meet5 %s: exit code %d\n%s", strings.Join(args, " "), e.code, e.err)
	}
	return e
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// until is a fixed end for simulations, so that they are the same every day.
const until = "2026-03-01T00:00:00Z"

// simulated is a folder with some thousand activities, in three commits or more
// of most partitions.
func simulated(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	for _, seed := range []string{"1", "2", "3"} {
		must(t, "simulate", "--members", "150", "--days", "3", "--seed", seed, "--until", until, "--data", dir)
	}
	return dir
}

func TestWrongUsageIsSaidOnStandardErrorWithExitCode2(t *testing.T) {
	t.Parallel()
	data := simulated(t)
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	csv := write(t, "visits.csv", "u,i,ts,label\na,b,1,0\n")
	mistyped := write(t, "mistyped.yaml", "id: a-rule\ntitle: A rule\nkey: actor\nevents: [visit, stare]\nwindow: {sliding: 1h}\naggregate: count\nthreshold: 5\nscore: 5\n")
	noYAML := write(t, "no.yaml", "id: [\n")
	for _, c := range []struct {
		args string
		says []string
	}{
		{"--bogus", []string{"--bogus"}},
		{"frobnicate", []string{"frobnicate"}},
		{"import --actor u --target i --time ts", []string{"<file>"}},
		{"import " + csv, []string{"--actor", "--target", "--time"}},
		{"import " + csv + " --actor u --target i --time ts --shuffle", []string{"--shuffle"}},
		{"import " + nowhere + " --actor u --target i --time ts", []string{nowhere}},
		{"import " + csv + " --actor u --target i --time when --data " + nowhere, []string{"--time", `"when"`, "u, i, ts, label"}},
		{"import " + csv + " --actor u --target whom --time ts --data " + nowhere, []string{"--target", `"whom"`, "u, i, ts, label"}},
		{"import " + csv + " --actor u --target i --time ts --type kind --data " + nowhere, []string{"--type", `"kind"`, "u, i, ts, label"}},
		{"import " + csv + " --actor u --target i --time ts --label bad --data " + nowhere, []string{"--label", `"bad"`, "u, i, ts, label"}},
		{"import " + csv + " --actor u --target i --time ts --mongo mongodb://127.0.0.1:1", []string{"--mongo needs --amqp"}},
		{"import " + csv + " --actor u --target i --time ts --data=", []string{"--data"}},
		{"up --mongo mongodb://127.0.0.1:1", []string{"--mongo needs --amqp"}},
		{"up --amqp amqp://127.0.0.1:1", []string{"--amqp needs --mongo"}},
		{"up --rate-limits perhaps", []string{"--rate-limits", "on", "off"}},
		{"up --mark-quota=-1", []string{"--mark-quota"}},
		{"simulate --members 3 --data " + nowhere, []string{"members"}},
		{"simulate --until tomorrow --data " + nowhere, []string{"--until"}},
		{"replay", []string{"<log>"}},
		{"replay everything", []string{"user", "activity", "fraud", "everything"}},
		{"replay activity --data " + nowhere, []string{nowhere, "no data"}},
		{"replay activity --format xml --data " + data, []string{"--format", "ndjson, csv or parquet"}},
		{"replay activity --format= --data " + data, []string{"--format", "ndjson, csv or parquet"}},
		{"replay activity --partition 16 --data " + data, []string{"--partition", "0 to 15"}},
		{"replay activity --partition=-1 --data " + data, []string{"--partition", "0 to 15"}},
		{"replay activity --after 7 --data " + data, []string{"--after", "partition"}},
		{"replay activity --limit -1 --data " + data, []string{"--limit"}},
		{"replay activity --actor somebody --data " + data, []string{"--actor"}},
		{"replay activity --since 2026-02-02T00:00:00Z --until 2026-02-01T00:00:00Z --data " + data, []string{"--until"}},
		{"replay activity --mongo mongodb://127.0.0.1:1", []string{"--mongo needs --amqp"}},
		{"verify --data " + nowhere, []string{nowhere, "no data"}},
		{"verify --csv " + csv + " --data " + data, []string{"--actor", "is missing", "u, i, ts, label"}},
		{"backtest", []string{"<file>"}},
		{"backtest " + mistyped + " --data " + data, []string{mistyped, "4:", "stare"}},
		{"backtest " + noYAML + " --data " + data, []string{noYAML}},
		{"backtest " + meet5Rule + " --since 2026-02-02T00:00:00Z --until 2026-02-01T00:00:00Z --data " + data, []string{"--until"}},
		{"backtest " + meet5Rule + " --thresholds 5,3 --data " + data, []string{"--thresholds", "ascend"}},
		{"backtest " + meet5Rule + " --sample -1 --data " + data, []string{"--sample"}},
		{"backtest " + meet5Rule + " --against guesses --data " + data, []string{"--against", "decisions"}},
		{"backtest " + meet5Rule + " --json --markdown --data " + data, []string{"--json", "--markdown"}},
		{"backtest " + meet5Rule + " " + meet5Rule + " --data " + data, []string{"meet5-first-minutes"}},
		{"backtest " + meet5Rule + " --data " + nowhere, []string{nowhere, "no data"}},
		{"rules test " + mistyped, []string{mistyped, "4:", "stare"}},
		{"migrate up", []string{"--mongo"}},
		{"projections rebuild everything --data " + data, []string{"views", "everything"}},
		{"projections status --data " + nowhere, []string{nowhere, "no data"}},
	} {
		e := command(t, strings.Fields(c.args)...)
		if e.code != usage || e.out != "" {
			t.Errorf("meet5 %s: exit code %d, standard output %q, standard error:\n%s", c.args, e.code, e.out, e.err)
		}
		for _, what := range c.says {
			if !strings.Contains(e.err, what) {
				t.Errorf("meet5 %s does not say %q but:\n%s", c.args, what, e.err)
			}
		}
		if n := strings.Count(e.err, "\n"); n > 20 {
			t.Errorf("meet5 %s: %d lines of complaint", c.args, n)
		}
	}
	if made, err := os.ReadDir(nowhere); len(made) > 0 || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("commands that were refused have made %v", made)
	}
}

const meet5Rule = "../../fraud/rulebook/meet5-first-minutes.yaml"

func TestEveryCommandAndFlagOfTheContractIsThere(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string]string{
		"up":             "--data --listen --demo --mongo --amqp $MEET5_DATA $MEET5_LISTEN $MEET5_RATE_LIMITS $MEET5_ADMIN_EMAIL $MEET5_ADMIN_PASSWORD",
		"import":         "--actor --target --time --type --label --strict --data --mongo --amqp",
		"simulate":       "--data --mongo --amqp",
		"replay":         "--type --actor --target --since --until --partition --after --limit --format -o --data --mongo --amqp",
		"backtest":       "--since --until --json --markdown --curve --thresholds --against --sample --seed --data --mongo --amqp",
		"rules test":     "<file>",
		"migrate plan":   "--mongo",
		"migrate up":     "--mongo",
		"migrate status": "--mongo",
		"verify":         "--data --mongo --amqp",

		"projections status":  "--all --json --data --mongo --amqp",
		"projections rebuild": "<name> --json --data --mongo --amqp",
		"projections switch":  "<version> --mongo --amqp",
		"projections drop":    "<version> --mongo --amqp",
	} {
		e := must(t, append(strings.Fields(name), "--help")...)
		if e.err != "" {
			t.Errorf("%s --help writes to standard error: %s", name, e.err)
		}
		for _, flag := range strings.Fields(flags) {
			if !strings.Contains(e.out, flag) {
				t.Errorf("%s has no %s:\n%s", name, flag, e.out)
			}
		}
	}
	if e := must(t, "--help"); !strings.Contains(e.out, "verify") || e.err != "" {
		t.Errorf("--help: %+v", e)
	}
}

func TestADataFolderThatIsInUseIsSaidToBe(t *testing.T) {
	t.Parallel()
	dir := simulated(t)
	db, err := boltlog.Open(filepath.Join(dir, "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	csv := write(t, "visits.csv", "u,i,ts\na,b,1\n")
	for _, args := range []string{
		"import " + csv + " --actor u --target i --time ts", "simulate --until " + until, "replay activity", "verify", "projections status", "backtest " + meet5Rule,
		"up --listen 127.0.0.1:0",
	} {
		e := command(t, append(strings.Fields(args), "--data", dir)...)
		if e.code != failed || e.out != "" || !strings.Contains(e.err, filepath.Join(dir, "log.db")) ||
			!strings.Contains(e.err, "in use by another process") || !strings.Contains(e.err, "stop it first") {
			t.Errorf("meet5 %s: exit code %d, %q\n%s", args, e.code, e.out, e.err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	must(t, "verify", "--data", dir)
}

func TestSimulatingTwiceAddsNothingAndOtherwiseAddsAnother(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	simulate := []string{"simulate", "--members", "150", "--days", "3", "--seed", "9", "--until", until, "--data", dir}
	first := must(t, simulate...)
	var members, written, known int
	if _, err := fmt.Sscanf(first.err, "%d members; %d activities written, %d in the log already", &members, &written, &known); err != nil || members != 150 || written < 1000 || known != 0 {
		t.Fatalf("%v: %s", err, first.err)
	}
	for _, cheat := range []string{"storm", "scraper", "likes", "robot"} {
		if !strings.Contains(first.err, "\n"+cheat) {
			t.Errorf("it does not say who is a %s:\n%s", cheat, first.err)
		}
	}
	activities, users := must(t, "replay", "activity", "--data", dir).out, must(t, "replay", "user", "--data", dir).out
	if a, u := strings.Count(activities, "\n"), strings.Count(users, "\n"); a != written || u != members {
		t.Errorf("the logs have %d activities of %d members", a, u)
	}
	if e := must(t, simulate...); !strings.Contains(e.err, fmt.Sprintf("150 members; 0 activities written, %d in the log already", written)) {
		t.Errorf("the second time it says:\n%s", e.err)
	}
	if must(t, "replay", "activity", "--data", dir).out != activities || must(t, "replay", "user", "--data", dir).out != users {
		t.Error("the second time has changed the logs")
	}
	// The same seed over more days is another simulation of the same members.
	simulate[4] = "4"
	if e := must(t, simulate...); !strings.Contains(e.err, "activities written, 0 in the log already") {
		t.Errorf("another simulation says:\n%s", e.err)
	}
	must(t, "verify", "--data", dir)
}

// line is a replayed event.
type line struct {
	ID        string    `json:"id"`
	Type      string    `json:"type"`
	Subject   string    `json:"subject"`
	Time      time.Time `json:"time"`
	Partition int       `json:"partition"`
	Sequence  uint64    `json:"sequence"`
	Data      struct {
		Target string `json:"target"`
	} `json:"data"`
}

func lines(t *testing.T, stream string) (list []line) {
	t.Helper()
	for text := range strings.Lines(stream) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		list = append(list, l)
	}
	return list
}

func TestReplayWritesWhatTheFiltersKeep(t *testing.T) {
	t.Parallel()
	dir := simulated(t)
	whole := must(t, "replay", "activity", "--data", dir)
	all := lines(t, whole.out)
	if len(all) < 3000 || whole.err != fmt.Sprintf("%d events\n", len(all)) {
		t.Fatalf("%d events; it says %s", len(all), whole.err)
	}
	middle := all[len(all)/2]
	like := all[slices.IndexFunc(all, func(l line) bool { return l.Type == "activity.profile_liked.v1" })]
	since, before := all[len(all)/3].Time, all[2*len(all)/3].Time
	rfc := func(t time.Time) string { return t.Format(time.RFC3339Nano) }
	for _, c := range []struct {
		filter string
		keeps  func(l line) bool
	}{
		{"", func(line) bool { return true }},
		{"--format ndjson", func(line) bool { return true }},
		{"--type " + like.Type, func(l line) bool { return l.Type == like.Type }},
		{"--type activity.like_withdrawn.v1 --type " + like.Type, func(l line) bool { return l.Type == like.Type || l.Type == "activity.like_withdrawn.v1" }},
		{"--type activity.nothing.v1", func(line) bool { return false }},
		{"--actor " + middle.Subject, func(l line) bool { return l.Subject == middle.Subject }},
		{"--target " + middle.Data.Target, func(l line) bool { return l.Data.Target == middle.Data.Target }},
		{"--actor " + like.Subject + " --target " + like.Data.Target, func(l line) bool {
			return l.Subject == like.Subject && l.Data.Target == like.Data.Target
		}},
		{"--since " + rfc(since), func(l line) bool { return !l.Time.Before(since) }},
		{"--until " + rfc(before), func(l line) bool { return l.Time.Before(before) }},
		{"--since " + rfc(since) + " --until " + rfc(before), func(l line) bool { return !l.Time.Before(since) && l.Time.Before(before) }},
		{"--partition 3", func(l line) bool { return l.Partition == 3 }},
		{"--partition 0 --after 100", func(l line) bool { return l.Partition == 0 && l.Sequence > 100 }},
	} {
		var want []line
		for _, l := range all {
			if c.keeps(l) {
				want = append(want, l)
			}
		}
		args := append([]string{"replay", "activity", "--data", dir}, strings.Fields(c.filter)...)
		e := must(t, args...)
		if got := lines(t, e.out); !slices.Equal(got, want) {
			t.Errorf("replay %s: %d events, want %d (or others)", c.filter, len(got), len(want))
		}
		limited := lines(t, must(t, append(args, "--limit", "5")...).out)
		if !slices.Equal(limited, want[:min(5, len(want))]) {
			t.Errorf("replay %s --limit 5: %d events", c.filter, len(limited))
		}
	}
}

func TestReplayWritesToAFile(t *testing.T) {
	t.Parallel()
	dir, to := simulated(t), t.TempDir()
	want := must(t, "replay", "activity", "--data", dir).out
	file := filepath.Join(to, "out.ndjson")
	for range 2 { // the second time over the first
		e := must(t, "replay", "activity", "--data", dir, "-o", file)
		got, err := os.ReadFile(file) //nolint:gosec // a test's file
		if err != nil || string(got) != want || e.out != "" {
			t.Fatalf("-o: %d bytes, want %d; %v; standard output %q", len(got), len(want), err, e.out)
		}
	}
	if e := command(t, "replay", "activity", "--data", dir, "-o", filepath.Join(to, "no", "such", "folder")); e.code != failed || e.out != "" {
		t.Errorf("a file that cannot be made: %+v", e)
	}
	if _, err := os.Stat("/dev/full"); err == nil {
		if e := command(t, "replay", "activity", "--data", dir, "-o", "/dev/full"); e.code != failed || !strings.Contains(e.err, "space") {
			t.Errorf("a full disk: exit code %d: %s", e.code, e.err)
		}
	}
}

func TestAnEmptyFileIsNoImport(t *testing.T) {
	t.Parallel()
	empty, dir := write(t, "empty.csv", ""), filepath.Join(t.TempDir(), "data")
	e := command(t, "import", empty, "--actor", "u", "--target", "i", "--time", "ts", "--data", dir)
	if _, err := os.Stat(dir); e.code != failed || !strings.Contains(e.err, empty+": the file is empty") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestEveryShippedRulePassesItsCases(t *testing.T) {
	t.Parallel()
	rules, err := filepath.Glob("../../fraud/rulebook/*.yaml")
	if err != nil || len(rules) < 4 {
		t.Fatalf("%d shipped rules, %v", len(rules), err)
	}
	for _, path := range rules {
		e := must(t, "rules", "test", path)
		if !strings.Contains(e.err, "all passed") || strings.Contains(e.out, "FAIL") || strings.Count(e.out, ": ok ") < 2 {
			t.Errorf("%s: %s%s", path, e.out, e.err)
		}
	}
}

func TestARuleWhoseCaseFailsIsSaidSoWithExitCode1(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(meet5Rule)
	if err != nil {
		t.Fatal(err)
	}
	wrong := strings.Replace(string(text), "expect: {fires_at: 8m57s}", "expect: silent", 1)
	if wrong == string(text) {
		t.Fatal("the shipped rule has no such case any more")
	}
	e := command(t, "rules", "test", write(t, "wrong.yaml", wrong))
	if e.code != failed || strings.Count(e.out, "FAIL") != 1 || !strings.Contains(e.err, "1 of ") {
		t.Errorf("%+v", e)
	}
}

// report is what of a backtest's report is looked at here.
type report struct {
	Log          string
	Events       int
	Since, Until *time.Time
	Rules        []struct {
		Rule  string
		Hits  int
		Users int
	}
}

func TestABacktestFindsTheCheatsOfASimulation(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	// The storms are members enough for a hundred others.
	must(t, "simulate", "--members", "200", "--days", "3", "--cheats", "2", "--until", until, "--data", dir)
	all := lines(t, must(t, "replay", "activity", "--data", dir).out)
	try := func(args ...string) (r report, out string) {
		e := must(t, append([]string{"backtest", meet5Rule, "--data", dir}, args...)...)
		if e.err != "" {
			t.Errorf("backtest %v says in a pipe: %s", args, e.err)
		}
		if slices.Contains(args, "--json") {
			if err := json.Unmarshal([]byte(e.out), &r); err != nil || len(r.Rules) != 1 {
				t.Fatalf("backtest %v: %v: %s", args, err, e.out)
			}
		}
		return r, e.out
	}
	r, _ := try("--json")
	if r.Log != "activity" || r.Events != len(all) || r.Rules[0].Rule != "meet5-first-minutes" || r.Rules[0].Users != 4 || r.Rules[0].Hits != 4 {
		t.Errorf("of %d events with 4 storms it says %+v", len(all), r)
	}
	if _, table := try(); !strings.Contains(table, "meet5-first-minutes") || !strings.Contains(table, "PRECISION") {
		t.Errorf("the table is:\n%s", table)
	}
	if _, markdown := try("--markdown", "--thresholds", "50,100"); !strings.HasPrefix(markdown, "| rule |") || !strings.Contains(markdown, "| meet5-first-minutes | live | 100 | 4 | 4 |") {
		t.Errorf("the Markdown is:\n%s", markdown)
	}
	if _, table := try("--thresholds", "50,100"); !strings.Contains(table, "THRESHOLD") {
		t.Errorf("with thresholds, the table is:\n%s", table)
	}
	half := all[len(all)/2].Time
	early, _ := try("--json", "--until", half.Format(time.RFC3339Nano))
	late, _ := try("--json", "--since", half.Format(time.RFC3339Nano))
	if early.Events == 0 || late.Events == 0 || early.Events+late.Events != r.Events || early.Rules[0].Hits+late.Rules[0].Hits != r.Rules[0].Hits {
		t.Errorf("early %+v and late %+v do not make up %+v", early, late, r)
	}
	if early.Until == nil || !early.Until.Equal(half) || late.Since == nil || !late.Since.Equal(half) {
		t.Errorf("the bounds %v are reported as %v and %v", half, early.Until, late.Since)
	}
}

func TestNothingOfProgressInAPipe(t *testing.T) {
	t.Parallel()
	csv := write(t, "visits.csv", "u,i,ts\n"+strings.Repeat("a,b,1\n", 20_000))
	dir := filepath.Join(t.TempDir(), "data")
	for _, args := range [][]string{
		{"import", csv, "--actor", "u", "--target", "i", "--time", "ts"}, {"simulate", "--until", until}, {"backtest", meet5Rule},
		{"verify", "--csv", csv, "--actor", "u", "--target", "i", "--time", "ts"}, {"replay", "activity", "-o", filepath.Join(t.TempDir(), "f")},
	} {
		e := command(t, append(args, "--data", dir)...)
		if e.code == usage || strings.ContainsAny(e.err+e.out, "\r\x1b%█") && args[0] != "backtest" || strings.ContainsAny(e.err, "\r\x1b") {
			t.Errorf("%v: %+v", args, e)
		}
	}
}

func TestMigratePlansRunsAndListsTheSteps(t *testing.T) {
	t.Parallel()
	uri, prefix, client := servertest.Mongo(t), "cli-"+uuid.NewString()[:8], servertest.Client(t)
	for _, db := range []string{"log", "user", "projections", "fraud", "activity"} {
		servertest.Dropped(t, client.Database(prefix+"_"+db))
	}
	migrate := func(what string) []string {
		e := must(t, "migrate", what, "--mongo", uri, "--prefix", prefix)
		if e.out == "" {
			return nil
		}
		return strings.Split(strings.TrimSuffix(e.out, "\n"), "\n")
	}
	planned := migrate("plan")
	if len(planned) < 4 {
		t.Fatalf("planned at first: %q", planned)
	}
	for _, l := range migrate("status") {
		if !strings.Contains(l, "to run") {
			t.Errorf("before any ran: %s", l)
		}
	}
	if again := migrate("plan"); !slices.Equal(again, planned) {
		t.Errorf("to plan has changed the plan from %q to %q", planned, again)
	}
	if ran := migrate("up"); !slices.Equal(ran, planned) {
		t.Errorf("ran: %q, planned were %q", ran, planned)
	}
	if left := migrate("plan"); left != nil {
		t.Errorf("planned after all ran: %q", left)
	}
	if e := must(t, "migrate", "up", "--mongo", uri, "--prefix", prefix); e.out != "" || !strings.Contains(e.err, "nothing to do") {
		t.Errorf("the second time: %+v", e)
	}
	status := migrate("status")
	if len(status) != len(planned) {
		t.Errorf("status lists %d steps, %d were planned", len(status), len(planned))
	}
	for _, l := range status {
		if strings.Contains(l, "to run") || !strings.Contains(l, time.Now().UTC().Format("2006-")) {
			t.Errorf("after all ran: %s", l)
		}
	}
	if e := command(t, "migrate", "plan", "--mongo", uri, "--prefix", "Not A Prefix"); e.code == done || !strings.Contains(e.err, "prefix") {
		t.Errorf("a prefix that no database can have: %+v", e)
	}
}
