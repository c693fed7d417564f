package user

import (
	"container/list"
	"sync"

	"github.com/google/uuid"
)

// maxCards bounds the cards that are remembered, at about 300 bytes each.
const maxCards = 100_000

// card is what a list shows of a user.
type card struct {
	ID          uuid.UUID `json:"id"`
	Handle      string    `json:"handle"`
	DisplayName string    `json:"display_name"`
}

// cards remembers the most recently used cards. What was read before a card was
// dropped is not put in after it: a reader names the generation that it began in.
type cards struct {
	most int

	mu         sync.Mutex
	byID       map[uuid.UUID]*list.Element // of card
	used       *list.List                  // the most recently used in front
	generation uint64
}

func newCards(most int) *cards {
	return &cards{most: most, byID: make(map[uuid.UUID]*list.Element), used: list.New()}
}

// get returns those that are remembered, and the generation for put.
func (c *cards) get(ids []uuid.UUID) (found map[uuid.UUID]card, generation uint64) {
	found = make(map[uuid.UUID]card, len(ids))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if e, ok := c.byID[id]; ok {
			c.used.MoveToFront(e)
			found[id] = e.Value.(card)
		}
	}
	return found, c.generation
}

// put remembers a card that was read in a generation, if that is not over.
func (c *cards) put(generation uint64, k card) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.generation {
		return
	}
	if e, ok := c.byID[k.ID]; ok {
		e.Value = k
		return
	}
	c.byID[k.ID] = c.used.PushFront(k)
	if c.used.Len() > c.most {
		oldest := c.used.Back()
		delete(c.byID, oldest.Value.(card).ID)
		c.used.Remove(oldest)
	}
}

// drop forgets a card that has changed.
func (c *cards) drop(id uuid.UUID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	if e, ok := c.byID[id]; ok {
		delete(c.byID, id)
		c.used.Remove(e)
	}
}

// dropAll forgets every card.
func (c *cards) dropAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	clear(c.byID)
	c.used.Init()
}
