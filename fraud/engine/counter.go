package engine

// counter is the aggregate count: the last threshold moments, in a ring.
type counter struct {
	crossing
	ring []moment
	head int // the oldest
	n    int
}

func (c *counter) observe(threshold int, s sighting, from int64, _ *Stats) bool {
	for c.n > 0 && c.ring[c.head].at < from {
		c.pop()
	}
	c.before(c.n == threshold)
	if c.n == threshold {
		c.pop() // threshold moments tell as much as more would
	}
	c.push(threshold, s.moment)
	return c.after(c.n == threshold)
}

func (c *counter) pop() {
	if c.head++; c.head == len(c.ring) {
		c.head = 0
	}
	c.n--
}

func (c *counter) push(threshold int, m moment) {
	if c.n == len(c.ring) {
		grown := make([]moment, min(threshold, max(4, 2*c.n)))
		k := copy(grown, c.ring[c.head:])
		copy(grown[k:], c.ring[:c.head])
		c.ring, c.head = grown, 0
	}
	at := c.head + c.n
	if at >= len(c.ring) {
		at -= len(c.ring)
	}
	c.ring[at] = m
	c.n++
}

func (c *counter) appendEvidence(sequences []uint64) []uint64 {
	for i := range c.n {
		sequences = append(sequences, c.ring[(c.head+i)%len(c.ring)].sequence)
	}
	return sequences
}
