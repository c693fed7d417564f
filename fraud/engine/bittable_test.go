package engine

import (
	"testing"

	"pgregory.net/rapid"
)

func TestABitTableHoldsAsManyUsersAsThereAreBits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOfNDistinct(rapid.Uint32Range(1, maxUser), maskBits+20, maskBits+20, rapid.ID).Draw(t, "numbers")
		var table bitTable
		table.put(numbers[0], maskBits-1) // of the event before
		table.clear()
		for i, n := range numbers[:maskBits] {
			table.put(n, i)
		}
		for i, n := range numbers {
			if bit, ok := table.get(n); ok != (i < maskBits) || ok && int(bit) != i {
				t.Fatalf("user %d: bit %d, %v, want %d", n, bit, ok, i)
			}
		}
	})
}
