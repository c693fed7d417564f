package main_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
)

// TestParked has the backend meet two decisions about one flag, the first of which
// cannot be read, and looks after what is then parked from the command line.
func TestParked(t *testing.T) {
	t.Parallel()
	where := backend.Where{Data: filepath.Join(t.TempDir(), "data")}
	b, err := backend.OpenTools(t.Context(), where, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	flag, user := uuid.New(), uuid.New()
	good, err := json.Marshal(events.Decision{User: user, Rule: "a-rule", By: uuid.New()})
	if err != nil {
		t.Fatal(err)
	}
	appendDecision(t, b.Logs.Fraud, flag, 1, []byte("this is no JSON"))
	appendDecision(t, b.Logs.Fraud, flag, 2, good)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	runBackend(t, where, func(parked []subscription.Parked) bool { return len(parked) == 2 })

	type line struct{ ID, Key, Reason, Event, Order string }
	list := func() (lines []line) {
		t.Helper()
		if err := json.Unmarshal([]byte(must(t, "parked", "list", "--json", "--data", where.Data).out), &lines); err != nil {
			t.Fatal(err)
		}
		return lines
	}
	lines := list()
	if len(lines) != 2 || lines[0].ID != "user-standing.fraud.0.1" || lines[0].Key != flag.String() || lines[0].Reason == "" || lines[1].Reason != "" {
		t.Fatalf("parked: %+v, want the first decision and the one behind it", lines)
	}
	if e := must(t, "parked", "list", "--data", where.Data); !strings.Contains(e.out, "user-standing.fraud.0.1") || !strings.Contains(e.out, "waits behind another") {
		t.Errorf("list: %s", e.out)
	}
	var shown struct {
		Reason  string
		Content struct{ Subject, Type string }
	}
	if e := must(t, "parked", "show", lines[0].ID, "--data", where.Data); json.Unmarshal([]byte(e.out), &shown) != nil ||
		shown.Content.Subject != flag.String() || shown.Content.Type != events.FlagConfirmed || shown.Reason == "" {
		t.Errorf("show: %s", e.out)
	}
	if e := command(t, "parked", "retry", lines[1].ID, "--data", where.Data); e.code != failed || !strings.Contains(e.err, "waits behind") {
		t.Errorf("retry what waits: exit code %d, %s", e.code, e.err)
	}
	if e := command(t, "parked", "drop", "user-standing.fraud.0.99", "--data", where.Data); e.code != failed || !strings.Contains(e.err, "no such event is parked") {
		t.Errorf("drop what is not parked: exit code %d, %s", e.code, e.err)
	}
	if e := command(t, "parked", "show", "something", "--data", where.Data); e.code != usage || !strings.Contains(e.err, "ID") {
		t.Errorf("an ID that is none: exit code %d, %s", e.code, e.err)
	}

	must(t, "parked", "retry", lines[0].ID, "--data", where.Data)
	runBackend(t, where, func(parked []subscription.Parked) bool { return parked[0].Attempts == 2 })
	if again := list(); len(again) != 2 || again[0].Order != "" {
		t.Errorf("after a retry: %+v, want both to be there as before", again)
	}
	must(t, "parked", "drop", lines[0].ID, "--data", where.Data)
	runBackend(t, where, func(parked []subscription.Parked) bool { return len(parked) == 0 })
	if left := list(); len(left) != 0 {
		t.Errorf("after the drop: %+v, want nothing", left)
	}
	if e := must(t, "parked", "list", "--data", where.Data); e.out != "" || !strings.Contains(e.err, "nothing is parked") {
		t.Errorf("list: %s%s", e.out, e.err)
	}
}

func appendDecision(t *testing.T, l *log.Log, flag uuid.UUID, version uint64, data []byte) {
	t.Helper()
	if _, err := l.Append(t.Context(), events.Event{
		ID: uuid.New(), Type: events.FlagConfirmed, Stream: flag, Version: version, OccurredAt: time.Now(), Data: data,
	}); err != nil {
		t.Fatal(err)
	}
}

// runBackend runs the backend until its user service has followed the fraud log
// and what is parked is as it should be, and ends it.
func runBackend(t *testing.T, where backend.Where, is func(parked []subscription.Parked) bool) {
	t.Helper()
	b, err := backend.New(t.Context(), backend.Config{Where: where}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx, listener) }()
	ledger := b.Ledgers["user"]
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		points, err := ledger.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		list, err := ledger.Parked(ctx, subscription.Place{})
		if err != nil {
			t.Fatal(err)
		}
		followed := slices.ContainsFunc(points, func(p subscription.Checkpoint) bool { return p.Group == "user-standing" && p.Sequence >= 2 })
		if followed && is(list) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("checkpoints %#v, parked %#v", points, list)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}
