package history_test

import (
	"slices"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/meet5/backend/cmd/history"
	"github.com/meet5/backend/events"
)

// spoilers break one promise each. how says whether there was anything to spoil.
var spoilers = []struct {
	name   string
	breaks history.Rule
	how    func(t *rapid.T, w *tale) bool
}{
	{"an acknowledged event vanishes", history.Lost, func(t *rapid.T, w *tale) bool {
		at, ok := w.draw(t, func(e events.Event) bool { return w.says("acknowledge", e.ID) })
		if ok {
			w.remove(at)
		}
		return ok
	}},
	{"an acknowledged position is another", history.Lost, func(t *rapid.T, w *tale) bool {
		return w.shift(t, 1)
	}},
	{"a retry is told another position", history.Repeated, func(t *rapid.T, w *tale) bool {
		return w.shift(t, 2)
	}},
	{"an event is written again", history.Repeated, func(t *rapid.T, w *tale) bool {
		at, ok := w.draw(t, anything)
		if ok {
			w.append(at.partition, *w.event(at))
		}
		return ok
	}},
	{"a refusal was none", history.RefusedButWritten, func(t *rapid.T, w *tale) bool {
		acked := w.stepsThat(func(s step) bool { return s.what == "acknowledge" && w.alone(s.call) })
		if len(acked) == 0 {
			return false
		}
		w.steps[rapid.SampledFrom(acked).Draw(t, "refused")].what = "conflict"
		return true
	}},
	{"a part of a batch vanishes before anybody is told", history.Torn, func(t *rapid.T, w *tale) bool {
		at, call, ok := w.drawBatch(t)
		if ok {
			w.steps[w.stepsThat(func(s step) bool { return s.call == call && s.what == "acknowledge" })[0]].what = "unknown"
			w.remove(at)
		}
		return ok
	}},
	{"a batch is cut in two commits", history.Torn, func(t *rapid.T, w *tale) bool {
		at, _, ok := w.drawBatch(t)
		if ok {
			pg := w.pages[at.partition][at.page]
			head, tail := pg, pg
			head.events, tail.events = pg.events[:at.event], pg.events[at.event:]
			w.pages[at.partition] = slices.Replace(w.pages[at.partition], at.page, at.page+1, head, tail)
		}
		return ok
	}},
	{"a version is another", history.Version, func(t *rapid.T, w *tale) bool {
		at, ok := w.draw(t, func(e events.Event) bool { return e.Version > 0 })
		if ok {
			w.event(at).Version += 7
		}
		return ok
	}},
	{"a claim is taken twice", history.Claim, func(t *rapid.T, w *tale) bool {
		at, ok := w.draw(t, func(e events.Event) bool { return len(e.Claims) > 0 })
		if ok {
			thief := *w.event(at)
			thief.ID, thief.Version = uuid.New(), 0
			w.append(at.partition, thief)
		}
		return ok
	}},
	{"two change places", history.Disordered, func(t *rapid.T, w *tale) bool {
		first, ok := w.draw(t, func(e events.Event) bool { return w.says("acknowledge", e.ID) })
		if !ok {
			return false
		}
		acked := w.when("acknowledge", w.event(first).ID)
		second, ok := w.draw(t, func(e events.Event) bool {
			return events.PartitionOf(e.Stream, len(w.pages)) == first.partition && w.says("acknowledge", e.ID) && w.when("ask", e.ID) > acked
		})
		if !ok {
			return false
		}
		a, b := w.event(first), w.event(second)
		*a, *b = *b, *a
		for i := range w.steps { // as by a server that tells no positions
			w.steps[i].at = nil
		}
		return true
	}},
	{"an event is in another partition", history.Misplaced, func(t *rapid.T, w *tale) bool {
		at, ok := w.draw(t, anything)
		if ok {
			w.append((at.partition+1)%len(w.pages), *w.event(at))
			w.remove(at)
		}
		return ok
	}},
	{"a sequence is left out", history.Sparse, func(t *rapid.T, w *tale) bool {
		at, ok := w.draw(t, anything)
		if ok {
			first := uint64(2)
			for _, pg := range w.pages[at.partition][:at.page] {
				first += uint64(len(pg.events))
			}
			w.pages[at.partition][at.page].first = first
		}
		return ok
	}},
	{"the clock goes back", history.Sparse, func(t *rapid.T, w *tale) bool {
		at, ok := w.draw(t, anything)
		if !ok || at.page == 0 {
			return false
		}
		pages := w.pages[at.partition]
		pages[at.page].recorded = pages[at.page-1].recorded.Add(-time.Microsecond)
		return true
	}},
	{"a stranger writes", history.Unasked, func(t *rapid.T, w *tale) bool {
		at, ok := w.draw(t, anything)
		if ok {
			stranger := *w.event(at)
			stranger.ID, stranger.Version, stranger.Claims = uuid.New(), 0, nil
			w.append(at.partition, stranger)
		}
		return ok
	}},
	{"an event is of another type", history.Unasked, func(t *rapid.T, w *tale) bool {
		at, ok := w.draw(t, anything)
		if ok {
			w.event(at).Type = events.ProfileLiked
		}
		return ok
	}},
	{"a delivery is left out", history.Gap, func(t *rapid.T, w *tale) bool {
		i, ok := w.drawDelivery(t)
		if ok {
			w.steps = slices.Delete(w.steps, i, i+1)
		}
		return ok
	}},
	{"two deliveries change places", history.Gap, func(t *rapid.T, w *tale) bool {
		i, ok := w.drawDelivery(t)
		if !ok || w.steps[i].event.Sequence > 1 && w.steps[i-1].what == "restart" {
			return false // after a restart either may be first
		}
		w.steps[i], w.steps[i+1] = w.steps[i+1], w.steps[i]
		return true
	}},
	{"a delivery comes twice", history.Redelivered, func(t *rapid.T, w *tale) bool {
		i, ok := w.drawDelivery(t)
		if ok {
			w.steps = slices.Insert(w.steps, i, w.steps[i])
		}
		return ok
	}},
	{"a restart is not told of", history.Redelivered, func(t *rapid.T, w *tale) bool {
		back := w.stepsThat(func(s step) bool { return s.what == "restart" })
		back = slices.DeleteFunc(back, func(i int) bool {
			return i == 0 || i+1 == len(w.steps) || w.steps[i-1].what != "deliver" || w.steps[i+1].what != "deliver" ||
				w.steps[i-1].partition != w.steps[i].partition || w.steps[i+1].partition != w.steps[i].partition ||
				w.steps[i+1].event.Sequence > w.steps[i-1].event.Sequence
		})
		if len(back) == 0 {
			return false
		}
		i := rapid.SampledFrom(back).Draw(t, "restart")
		w.steps = slices.Delete(w.steps, i, i+1)
		return true
	}},
	{"a delivery is of something else", history.Foreign, func(t *rapid.T, w *tale) bool {
		i, ok := w.drawDelivery(t)
		if ok {
			w.steps[i].event.Data = []byte(`{"other":1}`)
		}
		return ok
	}},
	{"a delivery is of another event", history.Foreign, func(t *rapid.T, w *tale) bool {
		i, ok := w.drawDelivery(t)
		if ok {
			w.steps[i].event.ID = uuid.New()
		}
		return ok
	}},
	{"the last delivery never comes", history.Undelivered, func(t *rapid.T, w *tale) bool {
		at, ok := w.draw(t, anything)
		if !ok {
			return false
		}
		last := uint64(0)
		for _, pg := range w.pages[at.partition] {
			last += uint64(len(pg.events))
		}
		w.steps = slices.DeleteFunc(w.steps, func(s step) bool {
			return s.what == "deliver" && s.partition == at.partition && s.event.Sequence == last
		})
		return true
	}},
}

// spot is an event's place in a tale's pages.
type spot struct{ partition, page, event int }

func anything(events.Event) bool { return true }

// draw picks one of the log's events.
func (w *tale) draw(t *rapid.T, fit func(events.Event) bool) (spot, bool) {
	var spots []spot
	for p := range w.pages {
		for i := range w.pages[p] {
			for n := range w.pages[p][i].events {
				if fit(w.pages[p][i].events[n]) {
					spots = append(spots, spot{p, i, n})
				}
			}
		}
	}
	if len(spots) == 0 {
		return spot{}, false
	}
	return rapid.SampledFrom(spots).Draw(t, "spot"), true
}

// drawBatch picks an event that stands right behind another one of the same
// acknowledged call, of a call whose events nobody else asked for.
func (w *tale) drawBatch(t *rapid.T) (at spot, call int, ok bool) {
	at, ok = w.draw(t, func(e events.Event) bool {
		for _, s := range w.steps {
			if s.what == "ask" && len(s.intents) > 1 && s.intents[0].ID != e.ID && w.says("acknowledge", e.ID) &&
				slices.ContainsFunc(s.intents, func(in history.Intent) bool { return in.ID == e.ID }) && w.alone(s.call) {
				call = s.call
				return true
			}
		}
		return false
	})
	if !ok {
		return at, 0, false
	}
	for _, s := range w.steps { // call is of the last that fits; find that of the one drawn
		if s.what == "ask" && slices.ContainsFunc(s.intents, func(in history.Intent) bool { return in.ID == w.event(at).ID }) {
			call = s.call
		}
	}
	return at, call, true
}

// drawDelivery picks one that is followed by its successor.
func (w *tale) drawDelivery(t *rapid.T) (int, bool) {
	var fit []int
	for i := 0; i+1 < len(w.steps); i++ {
		a, b := w.steps[i], w.steps[i+1]
		if a.what == "deliver" && b.what == "deliver" && a.partition == b.partition &&
			(i == 0 || w.steps[i-1].what != "restart" || a.event.Sequence == 1 && !w.handed(i, a.partition)) {
			fit = append(fit, i)
		}
	}
	if len(fit) == 0 {
		return 0, false
	}
	return rapid.SampledFrom(fit).Draw(t, "delivery"), true
}

// handed says whether anything of the partition was handed over before the step.
func (w *tale) handed(before, partition int) bool {
	return slices.ContainsFunc(w.steps[:before], func(s step) bool { return s.what == "deliver" && s.partition == partition })
}

func (w *tale) event(at spot) *events.Event { return &w.pages[at.partition][at.page].events[at.event] }

func (w *tale) remove(at spot) {
	pg := &w.pages[at.partition][at.page]
	if pg.events = slices.Delete(pg.events, at.event, at.event+1); len(pg.events) == 0 {
		w.pages[at.partition] = slices.Delete(w.pages[at.partition], at.page, at.page+1)
	}
}

func (w *tale) append(partition int, e events.Event) {
	pages, recorded := w.pages[partition], noon
	if len(pages) > 0 {
		recorded = pages[len(pages)-1].recorded
	}
	w.pages[partition] = append(pages, page{recorded: recorded, events: []events.Event{e}})
}

func (w *tale) stepsThat(fit func(step) bool) (places []int) {
	for i, s := range w.steps {
		if fit(s) {
			places = append(places, i)
		}
	}
	return places
}

// all are the places of the steps of a kind about the event.
func (w *tale) all(what string, id uuid.UUID) []int {
	about := make(map[int]bool)
	for _, s := range w.steps {
		if s.what == "ask" && slices.ContainsFunc(s.intents, func(in history.Intent) bool { return in.ID == id }) {
			about[s.call] = true
		}
	}
	return w.stepsThat(func(s step) bool { return s.what == what && about[s.call] })
}

func (w *tale) says(what string, id uuid.UUID) bool { return len(w.all(what, id)) > 0 }

// when is the place of the first step of a kind about the event.
func (w *tale) when(what string, id uuid.UUID) int { return w.all(what, id)[0] }

// asks are the intents of a call.
func (w *tale) asks(call int) []history.Intent {
	return w.steps[w.stepsThat(func(s step) bool { return s.what == "ask" && s.call == call })[0]].intents
}

// alone says that nobody else asked for the events of the call.
func (w *tale) alone(call int) bool {
	return !slices.ContainsFunc(w.asks(call), func(in history.Intent) bool { return len(w.all("ask", in.ID)) > 1 })
}

// shift moves an acknowledged position of an event that was acknowledged so often.
func (w *tale) shift(t *rapid.T, times int) bool {
	acked := w.stepsThat(func(s step) bool {
		return s.what == "acknowledge" && len(w.all("acknowledge", w.asks(s.call)[0].ID)) == times
	})
	if len(acked) == 0 {
		return false
	}
	w.steps[rapid.SampledFrom(acked).Draw(t, "shifted")].at[0].Sequence++
	return true
}
