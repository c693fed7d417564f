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
	length int64
	anchor anchor
}

// anchor is where a window begins.
type anchor uint8

const (
	sliding anchor = iota
	sinceCreation
	sinceFirst
)

func newWindow(w rule.Window) window {
	length, _ := w.Length()
	n := window{length: micros(length)}
	switch {
	case w.SinceAccountCreation > 0:
		n.anchor = sinceCreation
	case w.SinceFirstEvent > 0:
		n.anchor = sinceFirst
	}
	return n
}

func micros(d rule.Duration) int64 { return time.Duration(d).Microseconds() }

// at says from which time on events count for one that happens at a time, and
// whether that one counts itself. joined is when the account was made, first when the
// key's first event happened.
func (w window) at(t, joined, first int64) (from int64, open bool) {
	switch w.anchor {
	case sinceCreation:
		return earliest, t <= joined+w.length
	case sinceFirst:
		return earliest, t <= first+w.length
	}
	return t - w.length, true
}
