package mongoledger_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events/servertest"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/events/subscription/ledgertest"
	"github.com/meet5/backend/events/subscription/mongoledger"
)

func TestItKeepsThePromisesOfALedger(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T) subscription.Ledger { return ledger(t, servertest.Database(t, "ledger")) })
}

func ledger(t *testing.T, db *mongo.Database) *mongoledger.Ledger {
	t.Helper()
	for range 2 { // Create may be repeated
		if err := mongoledger.Create(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	return mongoledger.Open(db)
}

func TestCheckIsContentWithWhatCreateMakes(t *testing.T) {
	db := servertest.Database(t, "ledger")
	if err := mongoledger.Open(db).Check(t.Context()); !errors.Is(err, mongoledger.ErrNotReady) {
		t.Errorf("of an empty database: %v", err)
	}
	if err := ledger(t, db).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCheckpointsOfEarlierBuildsCount(t *testing.T) {
	for name, field := range map[string]string{"a read model's": "n", "another service's": "sequence"} {
		t.Run(name, func(t *testing.T) {
			db := servertest.Database(t, "ledger")
			old := bson.D{{Key: "_id", Value: "some-group/fraud/2"}, {Key: field, Value: int64(42)}}
			if _, err := db.Collection("checkpoints").InsertOne(t.Context(), old); err != nil {
				t.Fatal(err)
			}
			l := ledger(t, db)
			at := subscription.Place{Group: "some-group", Log: "fraud", Partition: 2}
			for _, step := range []struct{ saved, want uint64 }{{0, 42}, {41, 42}, {43, 43}, {42, 43}} {
				want := subscription.Checkpoint{Place: at, Sequence: step.want}
				if step.saved > 0 {
					want.At = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
					if err := l.Save(t.Context(), subscription.Checkpoint{Place: at, Sequence: step.saved, At: want.At}); err != nil {
						t.Fatal(err)
					}
				}
				if c, err := l.Load(t.Context(), at); err != nil || c != want {
					t.Errorf("after saving %d: %+v, %v", step.saved, c, err)
				}
				all, err := l.List(t.Context())
				if err != nil || !slices.Equal(all, []subscription.Checkpoint{want}) {
					t.Errorf("after saving %d: %+v, %v", step.saved, all, err)
				}
			}
		})
	}
}

func TestToSaveTakesOneRoundTrip(t *testing.T) {
	var calls atomic.Int64
	l := ledger(t, servertest.Database(t, "ledger", options.Client().SetMonitor(&event.CommandMonitor{Started: func(context.Context, *event.CommandStartedEvent) { calls.Add(1) }})))
	at := subscription.Place{Group: "g", Log: "l"}
	for sequence := range uint64(3) {
		before := calls.Load()
		if err := l.Save(t.Context(), subscription.Checkpoint{Place: at, Sequence: sequence}); err != nil {
			t.Fatal(err)
		}
		if n := calls.Load() - before; n != 1 {
			t.Errorf("it took %d", n)
		}
	}
}

func TestTheIDOfWhatIsParkedSortsAsItsSequence(t *testing.T) {
	db := servertest.Database(t, "ledger")
	l := ledger(t, db)
	at := subscription.Place{Group: "g", Log: "l", Partition: 4}
	if err := l.Park(t.Context(), subscription.Parked{Place: at, Sequence: 7}); err != nil {
		t.Fatal(err)
	}
	var doc bson.M
	if err := db.Collection("parked").FindOne(t.Context(), bson.D{}).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	if doc["_id"] != "g/l/4/0000000000000000007" {
		t.Errorf("its _id is %v", doc["_id"])
	}
}

func TestWhatWouldMixPlacesUpIsRefused(t *testing.T) {
	l := ledger(t, servertest.Database(t, "ledger"))
	for _, at := range []subscription.Place{
		{}, {Group: "a/b", Log: "c"}, {Group: "a", Log: "b/c"}, {Group: "a"}, {Group: "a", Log: "b", Partition: -1},
	} {
		_, err := l.Load(t.Context(), at)
		for what, err := range map[string]error{
			"load": err,
			"save": l.Save(t.Context(), subscription.Checkpoint{Place: at, Sequence: 1}),
			"park": l.Park(t.Context(), subscription.Parked{Place: at, Sequence: 1}),
		} {
			if err == nil {
				t.Errorf("%s %+v: accepted", what, at)
			}
		}
	}
	if err := l.Save(t.Context(), subscription.Checkpoint{Place: subscription.Place{Group: "g", Log: "l"}, Sequence: 1 << 63}); err == nil {
		t.Error("a sequence beyond what can be stored: accepted")
	}
	if all, err := l.List(t.Context()); len(all) != 0 || err != nil {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestTextThatIsNotUTF8IsParkedAllTheSame(t *testing.T) {
	l := ledger(t, servertest.Database(t, "ledger"))
	at := subscription.Place{Group: "g", Log: "l"}
	if err := l.Park(t.Context(), subscription.Parked{Place: at, Sequence: 1, Reason: "cut \xc3"}); err != nil {
		t.Fatal(err)
	}
	if list, err := l.Parked(t.Context(), at); err != nil || len(list) != 1 || list[0].Reason != "cut \uFFFD" {
		t.Errorf("%+v, %v", list, err)
	}
}
