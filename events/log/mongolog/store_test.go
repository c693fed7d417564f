package mongolog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/servertest"
)

func TestOfManyInsertsUnderOneSequenceOneWins(t *testing.T) {
	s := newStore(t, servertest.Database(t, "mongolog"), 1)
	const writers = 16
	commits := make([]events.Commit, writers)
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range commits {
		commits[i] = commitOf(t, 0, 1, i+1, 10)
		wg.Go(func() { errs[i] = s.Insert(context.Background(), commits[i], nil) })
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner < 0:
			winner = i
		case !errors.Is(err, log.ErrTaken):
			t.Errorf("insert %d: %v, want ErrTaken", i, err)
		}
	}
	if winner < 0 {
		t.Fatal("nobody won")
	}
	for c, err := range s.Read(t.Context(), 0, 0) {
		if err != nil || !bytes.Equal(c.Bytes(), commits[winner].Bytes()) {
			t.Fatalf("the log holds %+v (%v), not the winner's commit", c, err)
		}
	}
}

func TestAKeyIsHeldOnceAndARefusedCommitLeavesNothing(t *testing.T) {
	s := newStore(t, servertest.Database(t, "mongolog"), 2)
	insert(t, s, commitOf(t, 0, 1, 2, 10), "claim:anna", "claim:bert")
	err := s.Insert(t.Context(), commitOf(t, 0, 3, 1, 10), []string{"claim:carl", "claim:bert"})
	if !errors.Is(err, log.ErrTaken) {
		t.Fatalf("a held key: %v, want ErrTaken", err)
	}
	if !strings.Contains(err.Error(), "commit 3 into activity/0") {
		t.Errorf("%q does not say where", err)
	}
	held, err := s.Held(t.Context(), 0, []string{"claim:anna", "claim:bert", "claim:carl", ""})
	if err != nil || len(held) != 2 || !held["claim:anna"] || !held["claim:bert"] {
		t.Fatalf("held %v (%v), want anna and bert", held, err)
	}
	insert(t, s, commitOf(t, 0, 3, 1, 10), "claim:carl")
	insert(t, s, commitOf(t, 1, 1, 1, 10), "claim:anna") // a key reaches as far as its partition
}

func TestCommitsWithoutKeysDoNotMeet(t *testing.T) {
	s := newStore(t, servertest.Database(t, "mongolog"), 1)
	for first := range uint64(3) {
		insert(t, s, commitOf(t, 0, first+1, 1, 10))
	}
	if held, err := s.Held(t.Context(), 0, nil); err != nil || len(held) != 0 {
		t.Fatalf("held %v (%v), want none", held, err)
	}
}

func TestHeadIsTheLastEventOfTheLastCommit(t *testing.T) {
	s := newStore(t, servertest.Database(t, "mongolog"), 1)
	for _, want := range []uint64{0, 3, 4, 504} {
		head, err := s.Head(t.Context(), 0)
		if err != nil || head != want {
			t.Fatalf("head %d (%v), want %d", head, err, want)
		}
		n := map[uint64]int{0: 3, 3: 1, 4: 500}[want]
		if n > 0 {
			insert(t, s, commitOf(t, 0, want+1, n, 10))
		}
	}
}

func TestWhatCannotBeStoredIsRefusedForWhatItIs(t *testing.T) {
	s := newStore(t, servertest.Database(t, "mongolog"), 1)
	// The commit is within its own bound, but its keys, written as hex, are not.
	keys := make([]string, 40_000)
	for i := range keys {
		keys[i] = fmt.Sprintf("claim:%0250d", i)
	}
	for name, err := range map[string]error{
		"document has":         s.Insert(t.Context(), commitOf(t, 0, 1, 1, 10), keys),
		"no such partition":    s.Insert(t.Context(), commitOf(t, 1, 1, 1, 10), nil),
		"want 1 to 9223372036": s.Insert(t.Context(), commitOf(t, 0, math.MaxInt64, 2, 10), nil),
	} {
		if err == nil || errors.Is(err, log.ErrTaken) || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want an error with %q", err, name)
		}
	}
	if head, err := s.Head(t.Context(), 0); err != nil || head != 0 {
		t.Fatalf("head %d (%v), want nothing written", head, err)
	}
	if _, err := s.Head(t.Context(), 1); err == nil {
		t.Error("the head of a partition that is not there")
	}
	if _, err := read(t.Context(), s, 1, 0); err == nil {
		t.Error("a read of a partition that is not there")
	}
}

func TestTheLargestCommitIsKept(t *testing.T) {
	s := newStore(t, servertest.Database(t, "mongolog"), 1)
	c := commitOf(t, 0, 1, events.MaxCommitBytes/events.MaxData-1, events.MaxData)
	insert(t, s, c)
	for got, err := range s.Read(t.Context(), 0, 0) {
		if err != nil || !bytes.Equal(got.Bytes(), c.Bytes()) {
			t.Fatalf("%d bytes came back (%v), want the %d that went in", len(got.Bytes()), err, len(c.Bytes()))
		}
	}
}

func TestAnEndedContextEndsEveryCall(t *testing.T) {
	s := newStore(t, servertest.Database(t, "mongolog"), 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	errs := map[string]error{"insert": s.Insert(ctx, commitOf(t, 0, 1, 1, 10), nil)}
	_, errs["head"] = s.Head(ctx, 0)
	_, errs["read"] = read(ctx, s, 0, 0)
	_, errs["held"] = s.Held(ctx, 0, []string{"k"})
	_, errs["by key"] = s.ByKey(ctx, 0, "a", "b")
	errs["check"] = s.Check(ctx)
	for name, err := range errs {
		if !errors.Is(err, context.Canceled) || errors.Is(err, log.ErrTaken) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
	}
}

func TestADocumentIsAsTheLayoutSays(t *testing.T) {
	db := servertest.Database(t, "mongolog")
	s := newStore(t, db, 1)
	c := commitOf(t, 0, 1, 7, 10)
	insert(t, s, c, "claim:anna", "\x00\xff")
	insert(t, s, commitOf(t, 0, 8, 1, 10))
	var docs []bson.M
	cur, err := db.Collection("activity.p00").Find(t.Context(), bson.D{})
	if err == nil {
		err = cur.All(t.Context(), &docs)
	}
	if err != nil || len(docs) != 2 {
		t.Fatalf("%d documents (%v), want 2", len(docs), err)
	}
	d := docs[0]
	writer, _ := d["w"].(bson.Binary)
	commit, _ := d["e"].(bson.Binary)
	if d["_id"] != int64(1) || d["n"] != int32(7) || !bytes.Equal(writer.Data, c.Writer[:]) ||
		writer.Subtype != bson.TypeBinaryUUID || !bytes.Equal(commit.Data, c.Bytes()) ||
		d["t"] != bson.NewDateTimeFromTime(recorded) || fmt.Sprint(d["k"]) != "[636c61696d3a616e6e61 00ff]" {
		t.Errorf("the document is %v", d)
	}
	if k, ok := docs[1]["k"]; ok {
		t.Errorf("a commit without keys has k: %v", k)
	}
}
