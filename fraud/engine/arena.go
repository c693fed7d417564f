package engine

import "math/bits"

// arena hands out blocks of a few sizes, and keeps those that are given back for the
// next who wants one of that size. There is no pointer in it, so that state of any
// size costs the garbage collector nothing.
type arena[T any] struct {
	chunks [][]T // each of up to chunkSize; the last one grows until it is so long
	used   int   // of the last one
	free   [classes][]uint32
}

const (
	chunkBits = 16
	chunkSize = 1 << chunkBits
	// classes are the sizes of blocks: 2, 3, 4, 6, 8, 12 … chunkSize.
	classes = 31
)

// class is a block's size, counted from 1; 0 stands for no block.
type class = uint32

func sizeOf(c class) int {
	c--
	return (2 + int(c&1)) << (c / 2)
}

// classFor is the least class whose blocks have room for n, from 1 to chunkSize.
func classFor(n int) class {
	p := uint32(bits.Len(uint(max(n, 2) - 1))) //nolint:gosec // positive; 1<<p is the least power of two with room for n
	if p >= 2 && n <= 3<<(p-2) {
		return 2*p - 2
	}
	return 2*p - 1
}

// alloc hands out a zeroed block and says where it is.
func (a *arena[T]) alloc(c class) uint32 {
	if n := len(a.free[c-1]); n > 0 {
		at := a.free[c-1][n-1]
		a.free[c-1] = a.free[c-1][:n-1]
		clear(a.block(at, c))
		return at
	}
	size := sizeOf(c)
	if len(a.chunks) == 0 || a.used+size > chunkSize {
		a.chunks = append(a.chunks, nil)
		a.used = 0
	}
	last := len(a.chunks) - 1
	if need := a.used + size; need > len(a.chunks[last]) {
		grown := make([]T, min(max(2*len(a.chunks[last]), need), chunkSize))
		copy(grown, a.chunks[last])
		a.chunks[last] = grown
	}
	at := uint32(last)<<chunkBits | uint32(a.used) //nolint:gosec // memory ends before 2^32 entries of a partition
	a.used += size
	return at
}

func (a *arena[T]) release(at uint32, c class) { a.free[c-1] = append(a.free[c-1], at) }

// block is the one that is somewhere. It is good until the next alloc.
func (a *arena[T]) block(at uint32, c class) []T {
	return a.run(at, sizeOf(c))
}

// run is so much from somewhere on. It is good until the next alloc.
func (a *arena[T]) run(at uint32, n int) []T {
	from := int(at & (chunkSize - 1))
	return a.chunks[at>>chunkBits][from : from+n : from+n]
}

// slab hands out blocks of one size. Otherwise it is as an arena.
type slab struct {
	size   int
	chunks [][]uint32
	n      uint32 // blocks that there are
	free   []uint32
}

// slabBlocks is how many blocks a chunk has.
const slabBlocks = 1024

func (a *slab) alloc() uint32 {
	if n := len(a.free); n > 0 {
		at := a.free[n-1]
		a.free = a.free[:n-1]
		clear(a.block(at))
		return at
	}
	at := a.n
	a.n++
	last := int(at / slabBlocks)
	if last == len(a.chunks) {
		a.chunks = append(a.chunks, nil)
	}
	if need := int(at%slabBlocks+1) * a.size; need > len(a.chunks[last]) {
		grown := make([]uint32, min(max(2*len(a.chunks[last]), need), slabBlocks*a.size))
		copy(grown, a.chunks[last])
		a.chunks[last] = grown
	}
	return at
}

func (a *slab) release(at uint32) { a.free = append(a.free, at) }

// block is good until the next alloc.
func (a *slab) block(at uint32) []uint32 {
	from := int(at%slabBlocks) * a.size
	return a.chunks[at/slabBlocks][from : from+a.size : from+a.size]
}
