package backtest

import (
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/google/uuid"
)

// A million users on the ladders of ten rules, every one of them on some rung.
func TestAMillionUsersOnTenLaddersFitInAQuarterOfAGigabyte(t *testing.T) {
	const users, rules, most = 1_000_000, 10, 256 << 20
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	c := newCrowd(rules)
	for n := range uint64(users) {
		var user uuid.UUID
		binary.BigEndian.PutUint64(user[8:], n*0x9e3779b97f4a7c15)
		for r := range rules {
			c.reach(user, r, uint8(n%MaxThresholds)+1) //nolint:gosec // at most MaxThresholds
			c.reach(user, r, 1)                        // a lower one takes nothing away
		}
	}
	used := heap() - before
	counted := 0
	for user, rung := range c.highest(rules - 1) {
		if n := binary.BigEndian.Uint64(user[8:]) * 0xf1de83e19937733d; rung != uint8(n%MaxThresholds)+1 { //nolint:gosec // as above
			t.Fatalf("user %d is on rung %d", n, rung)
		}
		counted++
	}
	t.Logf("%d MiB", used>>20)
	if counted != users || used > most {
		t.Errorf("%d users take %d MiB", counted, used>>20)
	}
}
