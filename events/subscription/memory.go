package subscription

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Memory is a Ledger that is gone with its process: for read models that are, too.
type Memory struct {
	mu          sync.Mutex
	checkpoints map[Place]Checkpoint
	parked      map[Place]map[uint64]Parked
}

var _ Ledger = (*Memory)(nil)

// NewMemory makes an empty ledger.
func NewMemory() *Memory {
	return &Memory{checkpoints: make(map[Place]Checkpoint), parked: make(map[Place]map[uint64]Parked)}
}

// Load implements Checkpoints.
func (m *Memory) Load(_ context.Context, at Place) (Checkpoint, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.checkpoints[at]; ok {
		return c, nil
	}
	return Checkpoint{Place: at}, nil
}

// Save implements Checkpoints.
func (m *Memory) Save(_ context.Context, c Checkpoint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.Sequence = max(c.Sequence, m.checkpoints[c.Place].Sequence)
	m.checkpoints[c.Place] = c
	return nil
}

// List implements Ledger.
func (m *Memory) List(context.Context) ([]Checkpoint, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.checkpoints), func(a, b Checkpoint) int { return a.Place.Compare(b.Place) }), nil
}

// Park implements Ledger.
func (m *Memory) Park(_ context.Context, list ...Parked) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range list {
		there := m.parked[p.Place]
		if there == nil {
			there = make(map[uint64]Parked)
			m.parked[p.Place] = there
		}
		if before, ok := there[p.Sequence]; ok {
			p.ParkedAt = before.ParkedAt
			if before.Order == Drop {
				p.Order = Drop
			}
		}
		there[p.Sequence] = p
	}
	return nil
}

// Parked implements Ledger.
func (m *Memory) Parked(_ context.Context, at Place) ([]Parked, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Parked
	for place, there := range m.parked {
		if at == (Place{}) || at == place {
			out = slices.AppendSeq(out, maps.Values(there))
		}
	}
	slices.SortFunc(out, Parked.Compare)
	return out[:min(len(out), MaxParked)], nil
}

// Unpark implements Ledger.
func (m *Memory) Unpark(_ context.Context, at Place, sequence uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.parked[at], sequence)
	return nil
}

// Order implements Ledger.
func (m *Memory) Order(_ context.Context, at Place, sequence uint64, order Order) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.parked[at][sequence]
	if !ok {
		return fmt.Errorf("%v at %d: %w", at, sequence, ErrNotParked)
	}
	p.Order = order
	m.parked[at][sequence] = p
	return nil
}
