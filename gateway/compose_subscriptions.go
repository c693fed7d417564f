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

// adminPath is what a service's own operations stand under, by its name.
const adminPath = "/v1/admin/"

// subscriptionsAnswer is how every service's subscriptions stand. A service that
// does not answer is named in Missing.
type subscriptionsAnswer struct {
	Items   []json.RawMessage `json:"items"`
	Missing []string          `json:"missing"`
}

// serveSubscriptions serves GET /v1/admin/subscriptions, from all services at once.
func (g *Gateway) serveSubscriptions(w http.ResponseWriter, r *http.Request) {
	services := g.up.named()
	parts := make([]part, len(services))
	errs := make([]error, len(services))
	var wait sync.WaitGroup
	for i, s := range services {
		wait.Go(func() {
			parts[i], errs[i] = call(r.Context(), s.handler, r, http.MethodGet, adminPath+s.name+"/subscriptions", nil)
		})
	}
	wait.Wait()
	answer := subscriptionsAnswer{Items: []json.RawMessage{}, Missing: []string{}}
	for i, s := range services {
		var list struct {
			Items []map[string]json.RawMessage `json:"items"`
		}
		err := errs[i]
		if err == nil && parts[i].status != http.StatusOK {
			err = fmt.Errorf("%s answered %d", s.name, parts[i].status)
		}
		if err == nil {
			err = json.Unmarshal(parts[i].body, &list)
		}
		if err != nil {
			g.report(r.Context(), "subscriptions are answered without those of "+s.name, r, err)
			answer.Missing = append(answer.Missing, s.name)
			continue
		}
		for _, item := range list.Items {
			item["service"] = json.RawMessage(strconv.Quote(s.name))
			raw, err := json.Marshal(item)
			if err != nil { // unreachable: every part is valid
				problem.Write(w, r, problem.Internal())
				return
			}
			answer.Items = append(answer.Items, raw)
		}
	}
	if len(answer.Missing) == len(services) {
		problem.Write(w, r, problem.Unavailable("no service says how it stands right now", upstreamRetry))
		return
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

// byService sends a request to the service that its path names.
func (g *Gateway) byService(w http.ResponseWriter, r *http.Request) {
	name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, adminPath), "/")
	for _, u := range g.up.named() {
		if u.name == name {
			u.handler.ServeHTTP(w, r)
			return
		}
	}
	problem.Write(w, r, problem.NotFound("there is no service "+name+"; there are activity, fraud, projections and user"))
}
