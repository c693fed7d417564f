package history

import (
	"context"
	"slices"
)

// runs checks each append of several events: all of them are in the log or none,
// in one commit, in their order, with nothing between them. An append some of
// whose IDs were also asked for in another company is left out, since either may
// have written them.
func (c *checker) runs(ctx context.Context) {
	var members []uint32
	for n := range c.r.calls.len() {
		if call := c.r.calls.at(n); call.n > 1 && int(call.log) == c.number && call.outcome != conflict {
			members = c.run(ctx, n, members[:0])
		}
	}
}

// run checks one append. It returns its identities for their memory.
func (c *checker) run(ctx context.Context, number int, members []uint32) []uint32 {
	call := c.r.calls.at(number)
	anyAcked := false
	compared, same := number, true // the call that was compared last
	for i := call.first; i < call.first+call.n; i++ {
		at := c.index.of[i]
		if at == none {
			return members
		}
		named := false // before, in this call: it is written once
		for other := range c.index.asked(at) {
			of := int(c.r.intents.at(int(other)).call)
			outcome := c.r.calls.at(of).outcome
			if outcome == conflict {
				continue
			}
			if of != compared {
				compared, same = of, of == number || c.sameEvents(number, of)
			}
			if of < number || !same {
				return members // checked with that one, or not to be known
			}
			anyAcked = anyAcked || outcome == acknowledged
			named = named || of == number && other < i
		}
		if !named {
			members = append(members, at)
		}
	}
	c.whole(ctx, number, members, anyAcked)
	return members
}

// sameEvents says whether two calls ask for the same IDs in the same order.
func (c *checker) sameEvents(a, b int) bool {
	x, y := c.r.calls.at(a), c.r.calls.at(b)
	if x.n != y.n {
		return false
	}
	for i := range x.n {
		if c.index.of[x.first+i] != c.index.of[y.first+i] {
			return false
		}
	}
	return true
}

func (c *checker) whole(ctx context.Context, number int, members []uint32, anyAcked bool) {
	call := c.r.calls.at(number)
	there, missing := none, none
	for _, m := range members {
		if c.index.all.at(int(m)).sequence > 0 {
			there = m
		} else {
			missing = m
		}
	}
	switch {
	case there == none:
		return // nothing of it was written
	case missing != none && anyAcked:
		return // what is missing is Lost
	case missing != none:
		one, other := c.index.all.at(int(there)), c.index.all.at(int(missing))
		c.found.add(Torn, c.log.Name(), int(one.partition), func() (string, []string) {
			return sayf("a part of call %d was written", number+1), []string{
				c.sayCall(call.first), c.sayAt(ctx, int(one.partition), one.sequence),
				sayf("log: event %s of the same call is nowhere", other.id),
			}
		})
		return
	}
	for n := 1; n < len(members); n++ {
		before, e := c.index.all.at(int(members[n-1])), c.index.all.at(int(members[n]))
		broken := func(rule Rule, format string) {
			c.found.add(rule, c.log.Name(), int(before.partition), func() (string, []string) {
				return sayf(format, number+1), []string{
					c.sayCall(call.first), c.sayAt(ctx, int(before.partition), before.sequence), c.sayAt(ctx, int(e.partition), e.sequence),
				}
			})
		}
		switch {
		case e.partition != before.partition || e.sequence != before.sequence+1:
			broken(Disordered, "the events of call %d do not follow each other in their order")
			return
		case c.commitOf(e) != c.commitOf(before):
			broken(Torn, "call %d was written in two commits")
			return
		}
	}
}

// commitOf is the place of the event's commit in its partition.
func (c *checker) commitOf(e *identity) int {
	i, starts := slices.BinarySearch(c.firsts[e.partition], e.sequence)
	if starts {
		return i
	}
	return i - 1
}
