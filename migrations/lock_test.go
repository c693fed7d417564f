package migrations_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/meet5/backend/migrations"
)

func TestOneOfManyGetsALockWhoseLeaseHasEnded(t *testing.T) {
	dbs, _ := databases(t)
	const runs, rounds = 8, 30
	start := time.Now()
	for round := range rounds {
		clock := func() time.Time { return start.Add(time.Duration(round) * migrations.Lease) }
		var won atomic.Int32
		var wg sync.WaitGroup
		for range runs {
			wg.Go(func() {
				got, err := migrations.TryLock(context.Background(), dbs, clock)
				if err != nil {
					t.Error(err)
				}
				if got {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("round %d: %d of %d got the lock", round, won.Load(), runs)
		}
	}
}

func TestALockIsKeptWhileItIsRenewedAndItsLossIsNoticed(t *testing.T) {
	dbs, _ := databases(t)
	var now atomic.Int64
	clock := func() time.Time { return time.UnixMilli(now.Load()) }
	now.Store(time.Now().UnixMilli())
	pass := func(d time.Duration) { now.Add(d.Milliseconds()) }
	attempt := func(want bool, ahead time.Duration) {
		t.Helper()
		theirs := func() time.Time { return clock().Add(ahead) }
		if got, err := migrations.TryLock(t.Context(), dbs, theirs); err != nil || got != want {
			t.Fatalf("another run gets the lock: %v (%v), want %v", got, err, want)
		}
	}

	tick, held, lost := make(chan time.Time), make(chan struct{}), make(chan error, 1)
	go func() {
		lost <- migrations.KeepLock(t.Context(), dbs, clock, tick, func() { close(held) })
	}()
	<-held
	// renewed lets the lock be renewed and waits until it has been, so that nothing
	// else is under way while another run tries to get it.
	renewed := func() {
		t.Helper()
		select {
		case tick <- clock():
		case err := <-lost:
			t.Fatalf("the lock is lost: %v", err)
		}
		until := bson.D{{Key: "until", Value: clock().Add(migrations.Lease)}}
		for n := int64(0); n == 0; {
			var err error
			if n, err = dbs.Log.Collection("migrations_lock").CountDocuments(t.Context(), until); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-lost:
				t.Fatalf("the lock is lost: %v", err)
			default:
			}
		}
	}
	for range 3 {
		pass(migrations.Lease * 2 / 3)
		renewed()
		attempt(false, 0)
	}
	pass(migrations.Lease)
	renewed() // late, but nobody has taken the lock meanwhile
	attempt(false, 0)
	attempt(true, 2*migrations.Lease) // by that run's clock the lease has ended
	tick <- clock()
	if err := <-lost; err == nil || !strings.Contains(err.Error(), "the lock was lost") {
		t.Fatalf("%v, want to be told that the lock was lost", err)
	}
}
