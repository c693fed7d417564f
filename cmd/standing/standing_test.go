package standing_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/standing"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/events/subscription"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// twoLogs have three events in one partition, recorded one minute apart, the first
// at noon, and none elsewhere.
func twoLogs(t *testing.T) (logs []log.Reader, partition int) {
	t.Helper()
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	now := noon.Add(-time.Minute)
	for name, partitions := range map[string]int{"activity": 2, "fraud": 1} {
		store, err := db.Log(name, partitions)
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, store)
		if name == "fraud" {
			continue
		}
		actor := uuid.New()
		partition = events.PartitionOf(actor, partitions)
		for range 3 {
			l := log.New(store, log.Options{Clock: func() time.Time { return now }})
			now = now.Add(time.Minute)
			e := events.Event{ID: uuid.New(), Type: events.ActorHidden, Stream: actor, OccurredAt: now, Data: []byte(`{}`)}
			if _, err := l.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			l.Close()
		}
	}
	return logs, partition
}

func TestEveryPartitionOfAGroupIsTold(t *testing.T) {
	logs, partition := twoLogs(t)
	beat := noon.Add(time.Hour)
	at := subscription.Place{Group: "flags", Log: "activity", Partition: partition}
	ledger := subscription.NewMemory()
	for _, c := range []subscription.Checkpoint{
		{Place: at, Sequence: 1, At: beat, Rate: 7, Failure: "handle a batch"},
		{Place: subscription.Place{Group: "ages", Log: "fraud"}, At: beat},
		{Place: subscription.Place{Group: "lost", Log: "elsewhere"}, Sequence: 5},
	} {
		if err := ledger.Save(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if err := ledger.Park(t.Context(), subscription.Parked{Place: at, Sequence: 1, Key: uuid.New()}); err != nil {
		t.Fatal(err)
	}
	other := at
	other.Partition = 1 - partition
	behind := standing.Row{
		Service: "fraud", Place: at, Position: 1, Head: 3, Lag: 2, LagSeconds: 59 * 60, Rate: 7, Heartbeat: beat, Parked: 1, Failure: "handle a batch",
	}
	idle := standing.Row{Service: "fraud", Place: other}
	want := []standing.Row{{Service: "fraud", Place: subscription.Place{Group: "ages", Log: "fraud"}, Heartbeat: beat}, idle, behind}
	if partition == 0 {
		want[1], want[2] = behind, idle
	}
	rows, err := standing.Rows(t.Context(), map[string]subscription.Ledger{"fraud": ledger, "user": subscription.NewMemory()}, logs, noon.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Fatalf("-want +got\n%s", diff)
	}
	sums := standing.Sums(rows)
	if len(sums) != 2 {
		t.Fatalf("%d sums", len(sums))
	}
	behind.Partition = 0
	if diff := cmp.Diff(standing.Sum{Row: behind, Partitions: 2}, sums[1]); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
