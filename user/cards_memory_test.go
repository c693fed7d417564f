package user

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/user/account"
)

func TestTheLeastRecentlyUsedCardIsForgottenFirst(t *testing.T) {
	c := newCards(2)
	a, b, d := uuid.New(), uuid.New(), uuid.New()
	_, generation := c.get(nil)
	c.put(generation, card{ID: a})
	c.put(generation, card{ID: b})
	c.get([]uuid.UUID{a})
	c.put(generation, card{ID: d})
	found, _ := c.get([]uuid.UUID{a, b, d})
	if _, ok := found[b]; ok || len(found) != 2 {
		t.Errorf("%d cards are remembered, the least recently used among them: %v; want the other 2", len(found), ok)
	}
}

func TestACardReadBeforeItChangedIsNotRemembered(t *testing.T) {
	for name, change := range map[string]func(*cards, uuid.UUID){
		"one is dropped":  (*cards).drop,
		"all are dropped": func(c *cards, _ uuid.UUID) { c.dropAll() },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCards(2)
			id := uuid.New()
			_, generation := c.get([]uuid.UUID{id})
			change(c, id)
			c.put(generation, card{ID: id, Handle: "old"})
			if found, _ := c.get([]uuid.UUID{id}); len(found) != 0 {
				t.Errorf("%v is remembered", found)
			}
			_, generation = c.get(nil)
			c.put(generation, card{ID: id, Handle: "new"})
			if found, _ := c.get([]uuid.UUID{id}); found[id].Handle != "new" {
				t.Errorf("%v is remembered, want the new one", found)
			}
			change(c, id)
			if found, _ := c.get([]uuid.UUID{id}); len(found) != 0 {
				t.Errorf("%v is remembered after it was dropped", found)
			}
		})
	}
}

func TestTheRolesOfAccountsAreThoseOfTokens(t *testing.T) {
	of := []string{token.RoleAdmin, token.RoleAnalyst, token.RoleModerator, token.RoleService}
	if !slices.Equal(account.KnownRoles(), of) {
		t.Errorf("accounts have %v, tokens %v", account.KnownRoles(), of)
	}
}
