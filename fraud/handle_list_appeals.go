package fraud

import (
	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/service/web"
)

// listAppeals is GET /v1/me/appeals: one's own, the flag that was raised last first.
// What moderators say of them is not told, but for the state that came of it.
func (s *Service) listAppeals(c echo.Context) error {
	limit, cursor, err := web.Page(c)
	if err != nil {
		return err
	}
	ctx, me := c.Request().Context(), caller(c)
	// An appeal leads to no other state.
	q := flag.Query{User: me, States: []flag.State{flag.Appealed, flag.Upheld, flag.Overturned}, Sort: flag.Newest, Limit: limit}
	page, next, err := s.page(ctx, q, cursor)
	if err != nil {
		return err
	}
	var appeals []appealAnswer
	for _, f := range page {
		r, err := s.readFlag(ctx, f.ID)
		if err != nil {
			return err
		}
		for _, e := range r.History {
			if e.Type != "appealed" {
				continue
			}
			o, err := s.texts.opener(ctx, r.ID, []uuid.UUID{me}, e.Note)
			if err != nil {
				return err
			}
			a := appealAnswer{Flag: r.ID, State: r.State, At: stamp(e.At)}
			a.Text, a.Erased = o.open(e.Note)
			appeals = append(appeals, a)
		}
	}
	return web.List(c, appeals, next)
}
