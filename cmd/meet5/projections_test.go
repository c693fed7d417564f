package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	main "github.com/meet5/backend/cmd/meet5"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/projections/versions"
)

func TestProjectionsOnFiles(t *testing.T) {
	t.Parallel()
	data := simulated(t)
	e := must(t, "projections", "status", "--data", data)
	if !strings.Contains(e.err, "read models live in memory") || !regexp.MustCompile(`(?m)^activity +16 +[1-9]\d+$`).MatchString(e.out) {
		t.Errorf("status: %s%s", e.err, e.out)
	}
	var status struct{ Logs []struct{ Name string } }
	if e := must(t, "projections", "status", "--json", "--data", data); json.Unmarshal([]byte(e.out), &status) != nil || len(status.Logs) != 3 {
		t.Errorf("status as JSON: %s", e.out)
	}
	activities := strings.Count(must(t, "replay", "activity", "--data", data).out, "\n")
	e = must(t, "projections", "rebuild", "views", "--data", data)
	if !strings.Contains(e.err, "live in memory") || !regexp.MustCompile(`^views: folded \d+ events in [\d.]+ s, \d+ events/s\n$`).MatchString(e.out) {
		t.Errorf("rebuild: %s%s", e.err, e.out)
	}
	var done struct {
		Name   string
		Events int
	}
	if e := must(t, "projections", "rebuild", "views", "--json", "--data", data); json.Unmarshal([]byte(e.out), &done) != nil || done.Events != activities || done.Name != "views" {
		t.Errorf("rebuild as JSON, with %d activities: %s", activities, e.out)
	}
	for args, says := range map[string]string{
		"rebuild everything": "views", "rebuild": "<name>", "switch 1": "--mongo", "drop 1": "--mongo", "switch one": "one",
	} {
		e := command(t, append(append([]string{"projections"}, strings.Fields(args)...), "--data", data)...)
		if e.code != usage || e.out != "" || !strings.Contains(e.err, says) {
			t.Errorf("%s: exit code %d, %q\n%s", args, e.code, e.out, e.err)
		}
	}
}

func TestProjectionsOnRealServices(t *testing.T) {
	t.Parallel()
	w := realServices(t)
	simulate := func(seed string) {
		t.Helper()
		mustInside(t, append([]string{"simulate", "--members", "150", "--days", "3", "--seed", seed, "--until", until}, flags(w)...)...)
	}
	projections := func(args ...string) ended {
		t.Helper()
		return mustInside(t, append(append([]string{"projections"}, args...), flags(w)...)...)
	}
	refused := func(says string, args ...string) {
		t.Helper()
		var out, errOut bytes.Buffer
		err := main.RealMain(t.Context(), append(append([]string{"projections"}, args...), flags(w)...), &out, &errOut)
		if !errors.Is(err, versions.ErrRefused) || !strings.Contains(err.Error(), says) || out.Len() > 0 {
			t.Errorf("%v: %v, want a refusal that says %q", args, err, says)
		}
	}
	simulate("1")
	var first struct {
		From, To      int
		Events        uint64
		Seconds, Rate float64
	}
	if e := projections("rebuild", "views", "--json"); json.Unmarshal([]byte(e.out), &first) != nil ||
		first.From != 1 || first.To != 2 || first.Events < 1000 || first.Seconds <= 0 || first.Rate <= 0 || e.err != "" {
		t.Fatalf("rebuild: %s%s", e.err, e.out)
	}
	e := projections("status")
	for _, want := range []string{
		`(?m)^projections-v2 +activity +all 16 +\d+ +\d+ +0 +0s .* ago +0 *$`, `(?m)^2 +serving +20\S+Z +[1-9]`, `(?m)^1 +kept +20\S+Z +0$`,
	} {
		if !regexp.MustCompile(want).MatchString(e.out) {
			t.Errorf("status after a rebuild lacks %s:\n%s", want, e.out)
		}
	}
	refused("try again in", "drop", "1")
	refused("it serves", "drop", "2")
	refused("no such version", "switch", "7")

	simulate("2") // nobody follows
	type row struct {
		Service, Group, Log string
		Position, Head, Lag uint64
		LagSeconds          float64 `json:"lag_seconds"`
	}
	var status struct{ Subscriptions []row }
	if e := projections("status", "--json"); json.Unmarshal([]byte(e.out), &status) != nil || len(status.Subscriptions) != 16 {
		t.Fatalf("status: %s%s", e.err, e.out)
	}
	lag, position := uint64(0), uint64(0)
	for _, r := range status.Subscriptions {
		lag, position = lag+r.Lag, position+r.Position
		if r.Service != "projections" || r.Group != "projections-v2" || r.Log != "activity" || r.Lag != r.Head-r.Position || (r.Lag > 0) != (r.LagSeconds > 0) {
			t.Errorf("a row: %+v", r)
		}
	}
	if lag < 1000 || position != first.Events {
		t.Errorf("%d events behind at %d, after %d were folded", lag, position, first.Events)
	}
	if e := projections("switch", "1"); !strings.HasPrefix(e.out, "views: ") || !strings.Contains(e.out, "version 1 serves, version 2 is kept until it is dropped (meet5 projections drop 2)") {
		t.Errorf("switch: %s%s", e.err, e.out)
	}
	ago(t, w)
	if e := projections("drop", "2"); e.out != "version 2 is dropped\n" {
		t.Errorf("drop: %s%s", e.err, e.out)
	}
	if e := projections("status", "--all"); strings.Contains(e.out, "projections-v2") || !strings.Contains(e.out, "projections") {
		t.Errorf("status after the drop:\n%s", e.out)
	}
	mustInside(t, append([]string{"verify"}, flags(w)...)...)
}

// TestARunningProcessChangesOver rebuilds beside a process that serves.
func TestARunningProcessChangesOver(t *testing.T) {
	t.Parallel()
	w := realServices(t)
	b, err := backend.New(t.Context(), backend.Config{Where: w}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, b.Close()); err != nil {
			t.Error(err)
		}
	})
	follows := func(group string) {
		t.Helper()
		limit, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		again := time.NewTicker(10 * time.Millisecond)
		defer again.Stop()
		for {
			if subs := b.Projections.Subscriptions(); len(subs) == 2 && subs[0].Group() == group {
				return
			}
			select {
			case <-again.C:
			case <-limit.Done():
				t.Fatalf("it does not follow as %s", group)
			}
		}
	}
	follows("projections")
	simulate := []string{"simulate", "--members", "150", "--days", "3", "--until", until}
	mustInside(t, append(simulate, flags(w)...)...)
	for i, step := range []string{"rebuild views", "switch 1", "rebuild views"} {
		mustInside(t, append(append([]string{"projections"}, strings.Fields(step)...), flags(w)...)...)
		follows([]string{"projections-v2", "projections", "projections-v3"}[i])
		if err := b.Projections.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
	}
	mustInside(t, append(append(simulate, "--seed", "7"), flags(w)...)...)
	if err := b.Projections.CatchUp(ctx); err != nil {
		t.Fatal(err)
	}
	for _, s := range b.Projections.Subscriptions()[0].Status() {
		if s.Position != s.Head || s.Parked > 0 || s.Failure != "" {
			t.Errorf("%+v", s)
		}
	}
	mustInside(t, append([]string{"verify"}, flags(w)...)...)
}

// ago has what is kept be kept for long.
func ago(t *testing.T, w backend.Where) {
	t.Helper()
	dbs, client, err := backend.Connect(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	long := bson.D{{Key: "$set", Value: bson.D{{Key: "kept.0.since", Value: time.Unix(0, 0)}}}}
	if _, err := dbs.Projections.Collection("versions").UpdateByID(t.Context(), "views", long); err != nil {
		t.Error(err)
	}
	if err := client.Disconnect(t.Context()); err != nil {
		t.Error(err)
	}
}
