package replay_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/events/replay"
)

func fill(t testing.TB, n int) log.Reader {
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := db.Log("activity", 4)
	if err != nil {
		t.Fatal(err)
	}
	l := log.New(store, log.Options{})
	t.Cleanup(func() {
		l.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	var pending []*log.Pending
	for i := range n {
		data, err := json.Marshal(events.Activity{Target: user(i % 5), JoinedAt: at(0)})
		if err != nil {
			t.Fatal(err)
		}
		typ := events.ProfileVisited
		if i%4 == 3 {
			typ = events.ProfileLiked
		}
		p, err := l.Submit(events.Event{ID: uuid.New(), Type: typ, Stream: user(i % 7), OccurredAt: at(i / 2), Data: data})
		if err != nil {
			t.Fatal(err)
		}
		pending = append(pending, p)
	}
	for _, p := range pending {
		if _, err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

func user(n int) uuid.UUID    { return uuid.UUID{0: byte(n + 1)} }
func at(second int) time.Time { return time.Unix(int64(second), 0).UTC() }

func collect(t *testing.T, r log.Reader, f replay.Filter) []events.Recorded {
	t.Helper()
	var out []events.Recorded
	for e, err := range replay.Events(t.Context(), r, f) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func TestAReplayIsInOrderOfTimeAndOfEachPartition(t *testing.T) {
	got := collect(t, fill(t, 200), replay.Filter{})
	if len(got) != 200 {
		t.Fatalf("%d events, want 200", len(got))
	}
	last := map[int]uint64{}
	for i, e := range got {
		if i > 0 && e.OccurredAt.Before(got[i-1].OccurredAt) {
			t.Fatalf("event %d occurred before the one before it", i)
		}
		if e.Sequence != last[e.Partition]+1 {
			t.Fatalf("partition %d: sequence %d after %d", e.Partition, e.Sequence, last[e.Partition])
		}
		last[e.Partition] = e.Sequence
	}
}

func TestAFilterKeepsWhatItSays(t *testing.T) {
	r := fill(t, 200)
	all := collect(t, r, replay.Filter{})
	one := 2
	for name, c := range map[string]struct {
		filter replay.Filter
		keep   func(events.Recorded) bool
	}{
		"type":      {replay.Filter{Types: []string{events.ProfileLiked}}, func(e events.Recorded) bool { return e.Type == events.ProfileLiked }},
		"actor":     {replay.Filter{Actor: user(3)}, func(e events.Recorded) bool { return e.Stream == user(3) }},
		"target":    {replay.Filter{Target: user(2)}, func(e events.Recorded) bool { return strings.Contains(string(e.Data), user(2).String()) }},
		"times":     {replay.Filter{Since: at(10), Until: at(20)}, func(e events.Recorded) bool { return e.OccurredAt.Unix() >= 10 && e.OccurredAt.Unix() < 20 }},
		"partition": {replay.Filter{Partition: &one, After: 5}, func(e events.Recorded) bool { return e.Partition == one && e.Sequence > 5 }},
	} {
		var want, got []uuid.UUID
		for _, e := range all {
			if c.keep(e) {
				want = append(want, e.ID)
			}
		}
		for _, e := range collect(t, r, c.filter) {
			got = append(got, e.ID)
		}
		if !slices.Equal(got, want) || len(want) == 0 {
			t.Errorf("%s: %d events, want %d", name, len(got), len(want))
		}
	}
	if got := collect(t, r, replay.Filter{Limit: 7}); len(got) != 7 || got[6].ID != all[6].ID {
		t.Errorf("limit: %d events, want the first 7", len(got))
	}
}

func TestAFilterThatMakesNoSenseIsRefusedByName(t *testing.T) {
	r := fill(t, 1)
	beyond := 4
	for field, f := range map[string]replay.Filter{
		"partition": {Partition: &beyond}, "after": {After: 3}, "until": {Since: at(2), Until: at(2)}, "limit": {Limit: -1},
	} {
		for _, err := range replay.Events(t.Context(), r, f) {
			if err == nil || !strings.HasPrefix(err.Error(), field+":") {
				t.Errorf("%s: %v", field, err)
			}
		}
	}
}
