package fraud

import (
	"context"
	"encoding/json"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/fraud/flag"
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
	Erased   bool            `json:"erased,omitempty"`
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
	Erased  bool      `json:"erased,omitempty"`
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
	notes, err := s.notesOf(c.Request().Context(), page)
	if err != nil {
		return err
	}
	items := make([]bulkItem, len(page))
	for i, b := range page {
		items[i] = bulkItem{
			ID: b.id, Decision: b.decision, Note: notes[i].decided, Erased: notes[i].decidedErased, By: b.by, At: stamp(b.at), Filter: b.filter,
			Matched: b.changed + b.refused, Changed: b.changed, Refused: b.refused,
		}
		if u := b.undone; u != nil {
			items[i].Undone = &undoneItem{By: u.by, At: stamp(u.at), Note: notes[i].undone, Erased: notes[i].undoneErased, Changed: u.changed, Refused: u.refused}
		}
	}
	next := ""
	if more > 0 {
		next = web.EncodeCursor(bulkCursor, bulkPlace{more})
	}
	return web.List(c, items, next)
}

// bulkNotes are what an operation and its undoing say.
type bulkNotes struct {
	decided, undone             string
	decidedErased, undoneErased bool
}

// notesOf opens the notes of operations. One that an earlier build wrote in the clear is
// not remembered but read.
func (s *Service) notesOf(ctx context.Context, page []bulkSummary) (notes []bulkNotes, err error) {
	notes = make([]bulkNotes, len(page))
	var keys []uuid.UUID
	for _, b := range page {
		for _, n := range b.notes() {
			if n.sealed != nil {
				keys = append(keys, n.sealed.Key)
			}
		}
	}
	found, err := s.texts.find(ctx, keys...)
	if err != nil {
		return nil, err
	}
	for i, b := range page {
		n, both := &notes[i], b.notes()
		if both[0].plain || both[1].plain {
			whole, _, err := s.readBulk(ctx, b.id)
			if err == nil {
				err = s.openBulk(ctx, &whole)
			}
			if err != nil {
				return nil, err
			}
			n.decided, n.decidedErased, n.undoneErased = whole.Note, whole.noteErased, whole.undoNoteErased
			if whole.undo != nil {
				n.undone = whole.undo.Note
			}
			continue
		}
		o := opener{stream: b.id, keys: found}
		n.decided, n.decidedErased = o.open(flag.Text{Sealed: both[0].sealed})
		n.undone, n.undoneErased = o.open(flag.Text{Sealed: both[1].sealed})
	}
	return notes, nil
}
