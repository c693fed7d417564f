package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/meet5/backend/service/problem"
)

// homeItems is how many items of each list are at home. Three lists of them have
// no more users than maxCards.
const homeItems = 10

// homeAnswer is what an app shows first. A part whose service does not answer in
// time is null and named in Missing; "names" is there if the users in the lists
// are their ids alone.
type homeAnswer struct {
	Account       json.RawMessage `json:"account"`
	Stats         json.RawMessage `json:"stats"`
	Visitors      json.RawMessage `json:"visitors"`
	LikesReceived json.RawMessage `json:"likes_received"`
	Matches       json.RawMessage `json:"matches"`
	Missing       []string        `json:"missing"`
}

// homePart is one question for it.
type homePart struct {
	name    string
	service string
	to      http.Handler
	path    string
	into    *json.RawMessage
	list    bool // of users, which are to be named
}

// serveHome serves GET /v1/me/home, from two services at once. Every part has
// partTimeout for itself, and so have the names, which are asked for once it is
// known whose.
func (g *Gateway) serveHome(w http.ResponseWriter, r *http.Request) {
	first := "?limit=" + strconv.Itoa(homeItems)
	answer := homeAnswer{Missing: []string{}}
	questions := []homePart{
		{"account", "user", g.up.User, "/v1/me", &answer.Account, false},
		{"stats", "projections", g.up.Projections, "/v1/me/stats", &answer.Stats, false},
		{"visitors", "projections", g.up.Projections, "/v1/me/visitors" + first, &answer.Visitors, true},
		{"likes_received", "projections", g.up.Projections, "/v1/me/likes/received" + first, &answer.LikesReceived, true},
		{"matches", "projections", g.up.Projections, "/v1/me/matches" + first, &answer.Matches, true},
	}
	parts := make([]part, len(questions))
	errs := make([]error, len(questions))
	lists := make([]userList, len(questions))
	var wait sync.WaitGroup
	for i, q := range questions {
		wait.Go(func() {
			parts[i], errs[i] = call(r.Context(), q.to, r, http.MethodGet, q.path, nil)
			if errs[i] != nil || parts[i].status != http.StatusOK {
				return
			}
			if q.list {
				lists[i], errs[i] = readUserList(parts[i].body)
			} else if !json.Valid(parts[i].body) {
				errs[i] = fmt.Errorf("%s answered with what is no JSON", q.path)
			}
		})
	}
	wait.Wait()
	if account := parts[0]; errs[0] == nil && account.status >= 400 && account.status < 500 {
		passOn(w, account)
		return
	}
	var ill []string
	missing := func(part, service string, err error) {
		g.report(r.Context(), "home is answered without its "+part, r, err)
		answer.Missing = append(answer.Missing, part)
		if !slices.Contains(ill, service) {
			ill = append(ill, service)
		}
	}
	var whose []uuid.UUID
	for i, q := range questions {
		if err := errs[i]; err != nil || parts[i].status != http.StatusOK {
			if err == nil {
				err = fmt.Errorf("%s answered %d", q.path, parts[i].status)
			}
			missing(q.name, q.service, err)
			continue
		}
		*q.into = parts[i].body
		whose = append(whose, lists[i].ids...)
	}
	if len(answer.Missing) == len(questions) {
		problem.Write(w, r, problem.Unavailable("nothing of home can be read right now", upstreamRetry))
		return
	}
	if err := g.nameHome(r, questions, lists, whose); err != nil {
		missing("names", "user", err)
	}
	body, err := json.Marshal(answer)
	if err != nil { // unreachable: every part is valid
		problem.Write(w, r, problem.Internal())
		return
	}
	h := w.Header()
	if len(ill) > 0 {
		slices.Sort(ill)
		h.Set(partialHeader, strings.Join(ill, ", "))
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

// nameHome puts the names of users into all lists, with one question.
func (g *Gateway) nameHome(r *http.Request, questions []homePart, lists []userList, whose []uuid.UUID) error {
	if len(whose) == 0 {
		return nil
	}
	slices.SortFunc(whose, func(a, b uuid.UUID) int { return strings.Compare(string(a[:]), string(b[:])) })
	cards, err := decorator{g}.cards(r.Context(), r, slices.Compact(whose))
	if err != nil {
		return err
	}
	for i, q := range questions {
		if *q.into == nil || len(lists[i].ids) == 0 {
			continue
		}
		if *q.into, err = lists[i].named(cards); err != nil {
			return err
		}
	}
	return nil
}
