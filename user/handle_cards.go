package user

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
	"github.com/meet5/backend/user/account"
)

const (
	// maxCardIDs bounds one question for cards: a full page of any list.
	maxCardIDs = web.MaxLimit
	// cardReaders bounds how many streams one question reads at once.
	cardReaders = 8
)

type cardsBody struct {
	IDs []uuid.UUID `json:"ids"`
}

// handleCards serves POST /internal/users/cards: the cards of those of the ids
// that are known and not erased, in the order asked for, each once.
func (s *Service) handleCards(c echo.Context) error {
	var body cardsBody
	if err := web.Bind(c, &body); err != nil {
		return err
	}
	if len(body.IDs) > maxCardIDs {
		return problem.Invalid(problem.Field("ids", "must have at most "+strconv.Itoa(maxCardIDs)+" elements"))
	}
	found, err := s.cardsOf(c.Request().Context(), body.IDs)
	if err != nil {
		return err
	}
	items := make([]card, 0, len(body.IDs))
	for _, id := range body.IDs {
		if k, ok := found[id]; ok {
			items = append(items, k)
			delete(found, id)
		}
	}
	return c.JSON(http.StatusOK, struct {
		Items []card `json:"items"`
	}{items})
}

// cardsOf takes what is remembered from memory and reads the rest.
func (s *Service) cardsOf(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]card, error) {
	found, generation := s.cards.get(ids)
	var missing []uuid.UUID
	for _, id := range ids {
		if _, ok := found[id]; !ok {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	folded, err := s.foldAll(ctx, missing)
	if err != nil {
		return nil, err
	}
	keys, err := s.vault.Keys(ctx, missing...)
	if err != nil {
		return nil, err
	}
	for _, a := range folded {
		// Who has no key was erased just now, or never was.
		key, ok := keys[a.ID]
		if !ok || a.Erased {
			continue
		}
		p, err := unseal(key, a.ID, a.Sealed)
		if err != nil {
			return nil, err
		}
		k := card{ID: a.ID, Handle: p.Handle, DisplayName: p.DisplayName}
		found[a.ID] = k
		s.cards.put(generation, k)
	}
	return found, nil
}

// foldAll reads accounts side by side. Unknown ones are left out.
func (s *Service) foldAll(ctx context.Context, ids []uuid.UUID) ([]account.Account, error) {
	folded := make([]account.Account, len(ids))
	errs := make([]error, len(ids))
	var wg sync.WaitGroup
	turns := make(chan struct{}, cardReaders)
	for i, id := range ids {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			folded[i], errs[i] = s.fold(ctx, id)
		})
	}
	wg.Wait()
	known := folded[:0]
	for i, err := range errs {
		if errors.Is(err, account.ErrUnknown) {
			continue
		}
		if err != nil {
			return nil, err
		}
		known = append(known, folded[i])
	}
	return known, nil
}
