package engine

import (
	"math"
	"time"

	"github.com/meet5/backend/fraud/rule"
)

// earliest is before every time.
const earliest = math.MinInt64

// window is a rule's window, in microseconds. It is the one place that knows what
// a window holds.
type window struct {
	length   int64
	anchored bool // since account creation, not sliding
}

func newWindow(w rule.Window) window {
	if w.SinceAccountCreation > 0 {
		return window{length: micros(w.SinceAccountCreation), anchored: true}
	}
	return window{length: micros(w.Sliding)}
}

func micros(d rule.Duration) int64 { return time.Duration(d).Microseconds() }

// at says from which time on events count for one that happens at a time, and
// whether that one counts itself. joined is when the account was made.
func (w window) at(t, joined int64) (from int64, open bool) {
	if w.anchored {
		return earliest, t <= joined+w.length
	}
	return t - w.length, true
}
