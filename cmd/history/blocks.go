package history

// blockSize is how many elements a block holds.
const blockSize = 4096

// blocks is a growing list that never copies what it holds: millions of elements
// take no more memory than they are, and keep their addresses.
type blocks[T any] struct {
	full []*[blockSize]T
	n    int
}

func (b *blocks[T]) len() int { return b.n }

func (b *blocks[T]) at(i int) *T { return &b.full[i/blockSize][i%blockSize] }

func (b *blocks[T]) add(v T) {
	if b.n%blockSize == 0 {
		b.full = append(b.full, new([blockSize]T))
	}
	*b.at(b.n) = v
	b.n++
}
