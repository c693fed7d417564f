package fraud

import (
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/service/web"
)

// hitPlace is a hit's place among those of its rule.
type hitPlace struct {
	At       time.Time       `json:"at"`
	Position events.Position `json:"position"`
	User     uuid.UUID       `json:"user"`
}

// hitCursor ties cursors to the listing of a rule's hits.
const hitCursor = "rule-hits"

// listHits is GET /v1/moderation/rules/{id}/hits: the latest hits of a rule that runs,
// whether or not they raised flags, the latest first. There are none of a rule that
// does not run.
func (s *Service) listHits(c echo.Context) error {
	limit, cursor, err := web.Page(c)
	if err != nil {
		return err
	}
	k, err := s.readRule(c)
	if err != nil {
		return err
	}
	var after hitPlace
	if cursor != "" {
		if err := web.DecodeCursor(hitCursor+k.ID, cursor, &after); err != nil {
			return err
		}
	}
	var found []hit
	if t := s.raiser.tallyOf(k.ID); t != nil {
		found = t.recent()
	}
	items, next := []hitAnswer{}, ""
	for _, h := range found {
		if cursor != "" && h.before(hit{at: after.At, position: after.Position, user: after.User}) >= 0 {
			continue
		}
		if len(items) == limit {
			last := items[limit-1]
			next = web.EncodeCursor(hitCursor+k.ID, hitPlace{time.Time(last.At), last.Position, last.User})
			break
		}
		items = append(items, answerHit(h))
	}
	return web.List(c, items, next)
}

// tallyOf is what a rule has come to; nil if it is not run.
func (r *raiser) tallyOf(id string) *tally {
	p := r.program.Load()
	if p == nil {
		return nil
	}
	return p.tallies[id]
}

// isWarm says whether a tally holds the history of every partition.
func (r *raiser) isWarm(t *tally) bool { return int(t.warmed.Load()) >= len(r.lanes) }
