package backtest

import (
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/google/uuid"
)

// Users on the ladders of ten rules, every one of them on some rung. A million take
// four times as much: 70 MiB, where 256 would still be well.
func TestAQuarterOfAMillionUsersOnTenLaddersFitIn64Megabytes(t *testing.T) {
	const users, rules, most = 250_000 / MaxThresholds * MaxThresholds, 10, 64 << 20
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
	all, err := c.judge(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for rung, reached := range c.highest(rules-1, MaxThresholds) {
		if want := users / MaxThresholds; rung > 0 && reached.users() != want || rung == 0 && reached.users() != 0 {
			t.Errorf("%d users are on rung %d, want %d", reached.users(), rung, want)
		}
	}
	t.Logf("%d MiB", used>>20)
	if all.users() != users || used > most {
		t.Errorf("%d users take %d MiB", all.users(), used>>20)
	}
}
