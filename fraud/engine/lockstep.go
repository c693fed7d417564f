package engine

import (
	"bytes"
	"cmp"
	"math/bits"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/rule"
)

// lockstep is a rule of the aggregate lockstep. It looks for a core: accounts and targets,
// each of the accounts at so many of the targets and each of the targets with so many of
// the accounts, the largest there is. (The idea, dense blocks of who likes what when, is
// CopyCatch's: Beutel, Xu, Guruswami, Palow and Faloutsos, WWW 2013. That searches all of
// a graph; this, only around the event that has just come.)
type lockstep struct {
	*Rule
	kinds    kindSet
	least    int // targets of an account of the core
	accounts int // remembered of a target, at most
	targets  int // remembered of an account, at most maskBits

	// users are by their numbers.
	users []lockstepUser

	// Of the event that is being looked at: its account's targets, and of each account of
	// its target at which of those it is. They are reused, as are the rest.
	bit   bitTable
	masks []uint64
	fresh []member
	rests []entry
}

// lockstepUser is what a rule keeps of one user. There are no pointers in it.
type lockstepUser struct {
	accounts book // that met the user
	targets  book // that the user met
	// until is before when the user does not hit again, core or no core.
	until int64
}

// maskBits bounds the targets of an account, each of which is a bit.
const maskBits = 64

// member is an account of a core.
type member struct {
	id     uuid.UUID
	number uint32
}

func newLockstep(r *Rule) *lockstep {
	return &lockstep{
		Rule: r, kinds: kindsOf(r.Events...), least: r.Lockstep.Targets,
		accounts: rule.LockstepAccounts, targets: rule.LockstepTargets,
	}
}

// act runs the lockstep rules over an activity, whose time is its actor's. The hits of a
// rule are in the order of their users' IDs.
func (g *Engine) act(e *events.Recorded, kind kind, a events.Activity, hits []Hit) []Hit {
	actor, target := g.users.number(e.Stream), uint32(0)
	if actor == 0 {
		g.stats.Unnumbered++
		return hits
	}
	g.clocks = roomFor(g.clocks, actor)
	at := max(timeOf(e, a), g.clocks[actor])
	g.clocks[actor] = at
	s := sighting{at: at, place: g.placeOf(e.Position), kind: kind, joined: a.JoinedAt.UnixMicro()}
	for _, l := range g.locksteps {
		if !l.kinds.has(kind) || !l.where.holds(at, s.joined) {
			continue
		}
		if target == 0 {
			if target = g.users.number(a.Target); target == 0 {
				g.stats.Unnumbered++
				return hits
			}
		}
		hits = l.act(g, s, actor, target, e.Position, hits)
	}
	return hits
}

// roomFor sees to it that there is something of the user with a number.
func roomFor[T any](of []T, number uint32) []T {
	if more := int(number) + 1 - len(of); more > 0 {
		return append(of, make([]T, more)...)
	}
	return of
}

func (l *lockstep) act(g *Engine, s sighting, actor, target uint32, p events.Position, hits []Hit) []Hit {
	l.users = roomFor(l.users, max(actor, target))
	from := s.at - l.window.length
	s.other = actor
	met := &l.users[target].accounts
	met.note(g, newEntry(&s), from, l.accounts)
	s.other = target
	own := &l.users[actor].targets
	own.note(g, newEntry(&s), from, l.targets)
	if int(met.n) < l.Threshold || int(own.n) < l.least {
		return hits
	}
	accounts := met.entries(g)
	size := l.core(g, accounts, own.entries(g), from)
	if size == 0 {
		return hits
	}
	l.fresh = l.fresh[:0]
	for i, mask := range l.masks {
		if mask == 0 {
			continue
		}
		u := &l.users[accounts[i].other()]
		if s.at >= u.until {
			l.fresh = append(l.fresh, member{g.users.id(accounts[i].other()), accounts[i].other()})
		}
		u.until = max(u.until, s.at+l.window.length+1)
	}
	if len(l.fresh) == 0 {
		return hits
	}
	slices.SortFunc(l.fresh, func(a, b member) int { return bytes.Compare(a.id[:], b.id[:]) })
	evidence := l.evidence(g, accounts, from)
	for _, one := range l.fresh {
		hits = append(hits, Hit{
			Rule: l.Rule, User: one.id, At: time.UnixMicro(s.at).UTC(), Position: p, Observed: size, Evidence: evidence,
		})
	}
	return hits
}

// core leaves in masks, by account, the targets of the core at which the account is; none,
// if it is not in the core. It says how many accounts are; 0 if the actor or the target of
// the event, the last of either, is not.
func (l *lockstep) core(g *Engine, accounts, targets []entry, from int64) (size int) {
	l.bit.clear()
	for i, e := range targets {
		l.bit.put(e.other(), i)
	}
	l.masks = l.masks[:0]
	var with [maskBits]int // accounts, by target
	for _, e := range accounts {
		mask := uint64(0)
		if book := &l.users[e.other()].targets; int(book.n) >= l.least {
			for _, met := range book.entries(g) {
				if i, ok := l.bit.get(met.other()); ok && met.at() >= from {
					mask |= 1 << i
				}
			}
		}
		for m := mask; m != 0; m &= m - 1 {
			with[bits.TrailingZeros64(m)]++
		}
		l.masks = append(l.masks, mask)
	}
	left := ^uint64(0) >> (maskBits - len(targets))
	for changed := true; changed; {
		changed, size = false, 0
		for i, mask := range l.masks {
			switch {
			case mask == 0:
			case bits.OnesCount64(mask&left) >= l.least:
				size++
			default:
				for m := mask & left; m != 0; m &= m - 1 {
					with[bits.TrailingZeros64(m)]--
				}
				l.masks[i] = 0
			}
		}
		for m := left; m != 0; m &= m - 1 {
			if i := bits.TrailingZeros64(m); with[i] < l.Threshold {
				left &^= 1 << i
				changed = true
			}
		}
		if l.masks[len(accounts)-1] == 0 || left>>(len(targets)-1) == 0 {
			return 0
		}
	}
	for i := range l.masks {
		l.masks[i] &= left
	}
	return size
}

// evidence is the latest event of each account of the core at each of its targets, in the
// order in which they happened.
func (l *lockstep) evidence(g *Engine, accounts []entry, from int64) []events.Position {
	l.rests = l.rests[:0]
	for i, mask := range l.masks {
		if mask == 0 {
			continue
		}
		for _, met := range l.users[accounts[i].other()].targets.entries(g) {
			if bit, ok := l.bit.get(met.other()); ok && mask>>bit&1 != 0 && met.at() >= from {
				l.rests = append(l.rests, met)
			}
		}
	}
	return g.positions(l.rests)
}

// positions is where events are, in the order in which they happened.
func (g *Engine) positions(of []entry) []events.Position {
	slices.SortFunc(of, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.at(), b.at()), cmp.Compare(a.place(), b.place()))
	})
	out := make([]events.Position, len(of))
	for i, e := range of {
		out[i] = g.positionOf(e.place())
	}
	return out
}

// book is a list of other users, each with the latest event, in the order of those. It has
// a block of the engine's entries.
type book struct {
	at    uint32
	class class // 0 while there is no block
	n     int32
}

// entries are good until the next note.
func (b *book) entries(g *Engine) []entry {
	if b.class == 0 {
		return nil
	}
	return g.entries.run(b.at, int(b.n))
}

// note writes an event behind the others, and crosses out what happened before from, the
// other user's event before, and, if there are still more than most, the first.
func (b *book) note(g *Engine, e entry, from int64, most int) {
	kept := b.entries(g)[:0]
	for _, old := range b.entries(g) {
		if old.at() >= from && old.other() != e.other() {
			kept = append(kept, old)
		}
	}
	if len(kept) == most {
		kept = kept[:copy(kept, kept[1:])]
		g.stats.Forgotten++
	}
	b.n = int32(len(kept)) //nolint:gosec // few
	switch {
	case b.class == 0:
		b.class = classFor(2)
		b.at = g.entries.alloc(b.class)
	case int(b.n) == sizeOf(b.class):
		b.move(g, b.class+1)
	}
	b.n++
	b.entries(g)[b.n-1] = e
}

func (b *book) move(g *Engine, to class) {
	at := g.entries.alloc(to)
	copy(g.entries.block(at, to), b.entries(g))
	g.entries.release(b.at, b.class)
	b.at, b.class = at, to
}

// bitTable says which bit stands for a user.
type bitTable struct {
	numbers [4 * maskBits]uint32 // 0 is nobody
	bits    [4 * maskBits]uint8
}

func (t *bitTable) clear() { clear(t.numbers[:]) }

func (t *bitTable) slot(number uint32) int {
	const odd = 0x9e3779b1 // a prime near 2^32 divided by the golden ratio
	at := int(number * odd >> 24)
	for t.numbers[at] != 0 && t.numbers[at] != number {
		at = (at + 1) % len(t.numbers)
	}
	return at
}

func (t *bitTable) put(number uint32, bit int) {
	at := t.slot(number)
	t.numbers[at], t.bits[at] = number, uint8(bit) //nolint:gosec // below maskBits
}

func (t *bitTable) get(number uint32) (bit uint8, ok bool) {
	at := t.slot(number)
	return t.bits[at], t.numbers[at] == number
}
