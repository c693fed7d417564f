package fraud

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

// bulkBody asks for one decision on many flags: those that a filter finds, or those
// named.
type bulkBody struct {
	ID       uuid.UUID     `json:"id"`
	Filter   *bulkFilter   `json:"filter"`
	IDs      []uuid.UUID   `json:"ids"`
	Decision flag.Decision `json:"decision"`
	Note     string        `json:"note"`
	DryRun   bool          `json:"dry_run"`
}

// bulkFilter is the filters of the list of flags.
type bulkFilter struct {
	State    string `json:"state,omitempty"`
	Rule     string `json:"rule,omitempty"`
	User     string `json:"user,omitempty"`
	MinScore *int   `json:"min_score,omitempty"`
	Assignee string `json:"assignee,omitempty"`
	Since    string `json:"since,omitempty"`
	Until    string `json:"until,omitempty"`
}

func (f *bulkFilter) values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{
		"state": f.State, "rule": f.Rule, "user": f.User, "assignee": f.Assignee, "since": f.Since, "until": f.Until,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if f.MinScore != nil {
		v.Set("min_score", strconv.Itoa(*f.MinScore))
	}
	return v
}

// decideInBulk is POST /v1/moderation/bulk.
func (s *Service) decideInBulk(c echo.Context) error {
	var body bulkBody
	if err := web.Bind(c, &body); err != nil {
		return err
	}
	q, err := body.check(caller(c))
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	asked := bulk{id: body.ID, at: s.deps.Clock()}
	if asked.id == uuid.Nil {
		asked.id = s.deps.NewID()
	}
	asked.By, asked.Decision, asked.Note = caller(c), string(body.Decision), body.Note
	if body.Filter != nil {
		if asked.Filter, err = json.Marshal(body.Filter); err != nil {
			return err
		}
	}
	var done bulk
	ids, err := s.chosen(body.IDs, q)
	switch {
	case err != nil:
		// What has been done before is answered, whatever the filter finds by now.
		there, ok, readErr := s.readBulk(ctx, asked.id)
		if readErr == nil && ok {
			readErr = s.openBulk(ctx, &there)
		}
		if readErr != nil || !ok || body.DryRun || !there.asks(&asked) {
			return err
		}
		done, err = there, nil
	case body.DryRun:
		var n note
		if n, err = s.texts.dryNote(ctx, s.usersOf(ids), asked.Note); err == nil {
			done, _, err = s.plan(asked, ids, n, newMet())
		}
	default:
		done, err = s.decideAll(ctx, asked, ids)
	}
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, answerBulk(done, body.DryRun))
}

// check names every bad field, and makes a query of the filter; nil if the flags
// are named.
func (b *bulkBody) check(me uuid.UUID) (*flag.Query, error) {
	var faults []problem.FieldError
	if !slices.Contains(flag.Decisions(), b.Decision) {
		faults = append(faults, problem.Field("decision", "must be one of "+list(flag.Decisions())))
	}
	if utf8.RuneCountInString(b.Note) > MaxBulkNote {
		faults = append(faults, problem.Field("note", "must be at most "+strconv.Itoa(MaxBulkNote)+" characters"))
	}
	var q *flag.Query
	switch {
	case b.Filter == nil && len(b.IDs) == 0:
		faults = append(faults, problem.Field("filter", "must be given, unless ids are"))
	case b.Filter != nil && len(b.IDs) > 0:
		faults = append(faults, problem.Field("ids", "must be left out where a filter is given"))
	case len(b.IDs) > MaxBulk:
		faults = append(faults, problem.Field("ids", fmt.Sprintf("must be at most %d; make several operations of them", MaxBulk)))
	case b.Filter != nil:
		values := b.Filter.values()
		if len(values) == 0 {
			faults = append(faults, problem.Field("filter", "must filter by something, as in a state of open"))
			break
		}
		read, bad := parseQuery(values, me)
		for _, f := range bad {
			faults = append(faults, problem.Field("filter."+f.Field, f.Message))
		}
		q = &read
	}
	if len(faults) > 0 {
		return nil, problem.Invalid(faults...)
	}
	return q, nil
}

// chosen are the flags that the operation is about, each once.
func (s *Service) chosen(ids []uuid.UUID, q *flag.Query) ([]uuid.UUID, error) {
	if q == nil {
		once := make([]uuid.UUID, 0, len(ids))
		seen := make(map[uuid.UUID]bool, len(ids))
		for _, id := range ids {
			if !seen[id] {
				once = append(once, id)
			}
			seen[id] = true
		}
		return once, nil
	}
	q.Limit = MaxBulk
	found, more := s.board.List(*q)
	if more != nil {
		return nil, problem.Invalid(problem.Field("filter", fmt.Sprintf("must find at most %d flags; narrow it", MaxBulk)))
	}
	out := make([]uuid.UUID, len(found))
	for i, f := range found {
		out[i] = f.ID
	}
	return out, nil
}

// bulkAnswer is a bulk operation. Matched is how many flags it was about, Changed
// and Items those that it has decided on, or would. Erased says that there was a note,
// which is gone with somebody whom it was about.
type bulkAnswer struct {
	ID       uuid.UUID       `json:"id"`
	DryRun   bool            `json:"dry_run"`
	Decision string          `json:"decision"`
	Note     string          `json:"note"`
	Erased   bool            `json:"erased,omitempty"`
	By       uuid.UUID       `json:"by"`
	At       stamp           `json:"at"`
	Filter   json.RawMessage `json:"filter,omitempty"`
	Matched  int             `json:"matched"`
	Changed  int             `json:"changed"`
	Refused  []refusalAnswer `json:"refused"`
	Items    []uuid.UUID     `json:"items"`
	Undone   *undoneAnswer   `json:"undone"`
}

type refusalAnswer struct {
	ID     uuid.UUID `json:"id"`
	Status int       `json:"status"`
	Detail string    `json:"detail"`
}

// undoneAnswer tells of the operation's undoing: the flags that are back where they
// stood, and those that have moved on.
type undoneAnswer struct {
	By      uuid.UUID       `json:"by"`
	At      stamp           `json:"at"`
	Note    string          `json:"note"`
	Erased  bool            `json:"erased,omitempty"`
	Changed int             `json:"changed"`
	Refused []refusalAnswer `json:"refused"`
	Items   []uuid.UUID     `json:"items"`
}

func answerBulk(b bulk, dryRun bool) bulkAnswer {
	a := bulkAnswer{
		ID: b.id, DryRun: dryRun, Decision: b.Decision, Note: b.Note, Erased: b.noteErased, By: b.By, At: stamp(b.at), Filter: b.Filter,
		Matched: len(b.Flags) + len(b.Refused), Changed: len(b.Flags),
		Refused: answerRefusals(b.Refused), Items: make([]uuid.UUID, len(b.Flags)),
	}
	for i, f := range b.Flags {
		a.Items[i] = f.Flag
	}
	if u := b.undo; u != nil {
		a.Undone = &undoneAnswer{
			By: u.By, At: stamp(b.undone), Note: u.Note, Erased: b.undoNoteErased, Changed: len(u.Flags), Refused: answerRefusals(u.Refused), Items: u.Flags,
		}
	}
	return a
}

func answerRefusals(list []events.BulkRefusal) []refusalAnswer {
	out := make([]refusalAnswer, len(list))
	for i, r := range list {
		out[i] = refusalAnswer{ID: r.Flag, Status: r.Status, Detail: r.Detail}
	}
	return out
}
