package fraud

import (
	"encoding/json"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/web"
)

// bulkCursor ties cursors to the listing of bulk operations.
const bulkCursor = "bulk"

// bulkPlace is an operation's place in the list.
type bulkPlace struct {
	Before uint64 `json:"before"`
}

// bulkItem is a bulk operation in a list: what bulkAnswer says, with numbers in place
// of the flags.
type bulkItem struct {
	ID       uuid.UUID       `json:"id"`
	Decision string          `json:"decision"`
	Note     string          `json:"note"`
	By       uuid.UUID       `json:"by"`
	At       stamp           `json:"at"`
	Filter   json.RawMessage `json:"filter,omitempty"`
	Matched  int             `json:"matched"`
	Changed  int             `json:"changed"`
	Refused  int             `json:"refused"`
	Undone   *undoneItem     `json:"undone"`
}

type undoneItem struct {
	By      uuid.UUID `json:"by"`
	At      stamp     `json:"at"`
	Note    string    `json:"note"`
	Changed int       `json:"changed"`
	Refused int       `json:"refused"`
}

// listBulk is GET /v1/moderation/bulk: the latest bulk operations, the newest first,
// without their flags.
func (s *Service) listBulk(c echo.Context) error {
	limit, cursor, err := web.Page(c)
	if err != nil {
		return err
	}
	var place bulkPlace
	if cursor != "" {
		if err := web.DecodeCursor(bulkCursor, cursor, &place); err != nil {
			return err
		}
	}
	if err := s.catchUp(c.Request().Context()); err != nil {
		return err
	}
	page, more := s.bulks.List(place.Before, limit)
	items := make([]bulkItem, len(page))
	for i, b := range page {
		items[i] = bulkItem{
			ID: b.id, Decision: b.decision, Note: b.note, By: b.by, At: stamp(b.at), Filter: b.filter,
			Matched: b.changed + b.refused, Changed: b.changed, Refused: b.refused,
		}
		if u := b.undone; u != nil {
			items[i].Undone = &undoneItem{By: u.by, At: stamp(u.at), Note: u.note, Changed: u.changed, Refused: u.refused}
		}
	}
	next := ""
	if more > 0 {
		next = web.EncodeCursor(bulkCursor, bulkPlace{more})
	}
	return web.List(c, items, next)
}
