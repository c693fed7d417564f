package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/meet5/backend/service/problem"
)

const casePath = "/v1/moderation/users/"

// caseAnswer is all that is known of a user. A part whose service does not answer
// is null and named in Missing.
type caseAnswer struct {
	Account    json.RawMessage `json:"account"`
	Status     json.RawMessage `json:"status"`
	Flags      json.RawMessage `json:"flags"`
	Stats      json.RawMessage `json:"stats"`
	Activities json.RawMessage `json:"activities"`
	Missing    []string        `json:"missing"`
}

// serveCase serves GET /v1/moderation/users/{id}, from three services at once.
func (g *Gateway) serveCase(w http.ResponseWriter, r *http.Request) {
	user := "/internal/users/" + strings.TrimPrefix(r.URL.Path, casePath)
	answer := caseAnswer{Missing: []string{}}
	questions := []struct {
		name string
		to   http.Handler
		path string
		into *json.RawMessage
	}{
		{"account", g.up.User, user, &answer.Account},
		{"flags", g.up.Fraud, user + "/flags?limit=100", &answer.Flags},
		{"stats", g.up.Projections, user + "/stats", &answer.Stats},
		{"activities", g.up.Projections, user + "/activities", &answer.Activities},
	}
	parts := make([]part, len(questions))
	errs := make([]error, len(questions))
	var wait sync.WaitGroup
	for i, q := range questions {
		wait.Go(func() { parts[i], errs[i] = call(r.Context(), q.to, r, http.MethodGet, q.path, nil) })
	}
	wait.Wait()
	if account := parts[0]; errs[0] == nil && account.status >= 400 && account.status < 500 {
		passOn(w, account)
		return
	}
	for i, q := range questions {
		if err := errs[i]; err != nil || parts[i].status != http.StatusOK || !json.Valid(parts[i].body) {
			if err == nil {
				err = fmt.Errorf("%s answered %d", q.path, parts[i].status)
			}
			g.report(r.Context(), "a case is answered without its "+q.name, r, err)
			answer.Missing = append(answer.Missing, q.name)
			continue
		}
		*q.into = unwrap(parts[i].body)
	}
	if len(answer.Missing) == len(questions) {
		problem.Write(w, r, problem.Unavailable("nothing of the case can be read right now", upstreamRetry))
		return
	}
	if answer.Account != nil {
		var account struct {
			Status json.RawMessage `json:"status"`
		}
		if json.Unmarshal(answer.Account, &account) == nil {
			answer.Status = account.Status
		}
	}
	body, err := json.Marshal(answer)
	if err != nil { // unreachable: every part is valid
		problem.Write(w, r, problem.Internal())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

// passOn answers with a refusal of the user service: the user is unknown, or the
// id is none.
func passOn(w http.ResponseWriter, p part) {
	w.Header().Set("Content-Type", problem.ContentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(p.body)))
	w.WriteHeader(p.status)
	_, _ = w.Write(p.body)
}

// unwrap takes the items out of a list, so that a case's lists are plain arrays.
func unwrap(body []byte) json.RawMessage {
	var list struct {
		Items json.RawMessage `json:"items"`
	}
	if json.Unmarshal(body, &list) == nil && list.Items != nil {
		return list.Items
	}
	return body
}
