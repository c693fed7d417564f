package flag

import "slices"

// ordered is a set of flags in an order. What the order goes by must not change
// while a flag is in it. A change costs a binary search and a move within a chunk,
// however large the set is; an entry takes 8 to 16 bytes.
//
// The zero value but for order is empty.
type ordered struct {
	order func(a, b *Flag) int
	// chunks are in order, none is empty, and each holds at most chunkSize.
	chunks [][]*Flag
	n      int
}

// chunkSize is at which size a chunk is split in two. One that shares its two
// neighbours' room is joined with one of them.
const chunkSize = 256

// at is a place in an ordered set: before its first flag at the least, after its
// last at the most.
type at struct{ chunk, i int }

// seek returns the place of the first flag that does not come before f.
func (o *ordered) seek(f *Flag) at {
	c, _ := slices.BinarySearchFunc(o.chunks, f, func(c []*Flag, f *Flag) int { return o.order(c[len(c)-1], f) })
	if c == len(o.chunks) {
		return o.end()
	}
	i, _ := slices.BinarySearchFunc(o.chunks[c], f, o.order)
	return at{c, i}
}

func (o *ordered) end() at { return at{len(o.chunks), 0} }

// get returns the flag at a place, nil at the end and before the first.
func (o *ordered) get(p at) *Flag {
	if p.chunk < 0 || p.chunk >= len(o.chunks) {
		return nil
	}
	return o.chunks[p.chunk][p.i]
}

func (o *ordered) next(p at) at {
	if p.i++; p.i == len(o.chunks[p.chunk]) {
		return at{p.chunk + 1, 0}
	}
	return p
}

func (o *ordered) before(p at) at {
	if p.i > 0 {
		return at{p.chunk, p.i - 1}
	}
	if p.chunk == 0 {
		return at{-1, 0}
	}
	return at{p.chunk - 1, len(o.chunks[p.chunk-1]) - 1}
}

// insert adds a flag that is not in the set.
func (o *ordered) insert(f *Flag) {
	o.n++
	p := o.seek(f)
	if p.chunk == len(o.chunks) {
		// Behind all others, where most come: a full chunk stays full.
		if p.chunk == 0 || len(o.chunks[p.chunk-1]) == chunkSize {
			o.chunks = append(o.chunks, []*Flag{f})
			return
		}
		o.chunks[p.chunk-1] = append(o.chunks[p.chunk-1], f)
		return
	}
	c := slices.Insert(o.chunks[p.chunk], p.i, f)
	if len(c) <= chunkSize {
		o.chunks[p.chunk] = c
		return
	}
	half := len(c) / 2
	o.chunks[p.chunk] = slices.Clone(c[:half])
	o.chunks = slices.Insert(o.chunks, p.chunk+1, slices.Clone(c[half:]))
}

// remove takes out a flag that is in the set.
func (o *ordered) remove(f *Flag) {
	p := o.seek(f)
	if o.get(p) != f {
		return
	}
	o.n--
	c := slices.Delete(o.chunks[p.chunk], p.i, p.i+1)
	o.chunks[p.chunk] = c
	switch {
	case len(c) == 0:
		o.chunks = slices.Delete(o.chunks, p.chunk, p.chunk+1)
	case p.chunk > 0 && len(o.chunks[p.chunk-1])+len(c) <= chunkSize/2:
		o.join(p.chunk - 1)
	case p.chunk+1 < len(o.chunks) && len(o.chunks[p.chunk+1])+len(c) <= chunkSize/2:
		o.join(p.chunk)
	}
}

// join makes one chunk of a chunk and the one behind it.
func (o *ordered) join(chunk int) {
	o.chunks[chunk] = slices.Concat(o.chunks[chunk], o.chunks[chunk+1])
	o.chunks = slices.Delete(o.chunks, chunk+1, chunk+2)
}
