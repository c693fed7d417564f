package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"

	"github.com/google/uuid"
)

const (
	// maxCards is how many users' names the user service tells at once: as many as
	// a page can have.
	maxCards = 100
	// partialHeader names the services whose part of an answer is missing.
	partialHeader = "Meet5-Partial"
)

// decorator serves the lists of the projections service with the names of the
// users in them, which only the user service can read. If it does not answer, the
// list comes without names, and Meet5-Partial says so.
type decorator struct{ g *Gateway }

func (d decorator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The answer must be readable here, and its validators are not ours.
	r.Header.Del("Accept-Encoding")
	r.Header.Del("If-None-Match")
	held := &holder{ResponseWriter: w}
	d.g.up.Projections.ServeHTTP(held, r)
	if !held.holding {
		return
	}
	body, err := d.decorate(r.Context(), r, held.body)
	if err != nil {
		d.g.report(r.Context(), "a list is answered without names", r, err)
		w.Header().Set(partialHeader, "user")
		body = held.body
	}
	held.release(body)
}

// card is what the user service tells of a user.
type card struct {
	ID          uuid.UUID `json:"id"`
	Handle      string    `json:"handle"`
	DisplayName string    `json:"display_name"`
}

// decorate adds handle and display_name to the user of every item. Of who has
// erased their account, both are null.
func (d decorator) decorate(ctx context.Context, r *http.Request, list []byte) ([]byte, error) {
	l, err := readUserList(list)
	if err != nil || len(l.items) == 0 {
		return list, err
	}
	cards, err := d.cards(ctx, r, l.ids)
	if err != nil {
		return nil, err
	}
	return l.named(cards)
}

// userList is a list whose items each have a user.
type userList struct {
	page         object
	items, users []object
	ids          []uuid.UUID
}

func readUserList(list []byte) (l userList, err error) {
	if err := json.Unmarshal(list, &l.page); err != nil {
		return l, fmt.Errorf("read the list: %w", err)
	}
	if err := json.Unmarshal(l.page.get("items"), &l.items); err != nil {
		return l, fmt.Errorf("read the list's items: %w", err)
	}
	l.ids, l.users = make([]uuid.UUID, len(l.items)), make([]object, len(l.items))
	for i, item := range l.items {
		if err := json.Unmarshal(item.get("user"), &l.users[i]); err != nil {
			return l, fmt.Errorf("read the user of item %d: %w", i, err)
		}
		if err := json.Unmarshal(l.users[i].get("id"), &l.ids[i]); err != nil {
			return l, fmt.Errorf("read the user's id of item %d: %w", i, err)
		}
	}
	return l, nil
}

// named is the list with what the cards say of its users.
func (l userList) named(cards map[uuid.UUID]card) ([]byte, error) {
	for i := range l.items {
		var handle, name *string
		if c, ok := cards[l.ids[i]]; ok {
			handle, name = &c.Handle, &c.DisplayName
		}
		if err := errors.Join(l.users[i].set("handle", handle), l.users[i].set("display_name", name), l.items[i].set("user", l.users[i])); err != nil {
			return nil, err
		}
	}
	if err := l.page.set("items", l.items); err != nil {
		return nil, err
	}
	return json.Marshal(l.page)
}

func (d decorator) cards(ctx context.Context, r *http.Request, ids []uuid.UUID) (map[uuid.UUID]card, error) {
	if len(ids) > maxCards {
		return nil, fmt.Errorf("the list has %d items, more than a page", len(ids))
	}
	question, err := json.Marshal(map[string][]uuid.UUID{"ids": ids})
	if err != nil {
		return nil, err
	}
	p, err := call(ctx, d.g.up.User, r, http.MethodPost, "/internal/users/cards", question)
	if err != nil {
		return nil, err
	}
	if p.status != http.StatusOK {
		return nil, fmt.Errorf("ask for the names of users: status %d", p.status)
	}
	var answer struct {
		Items []card `json:"items"`
	}
	if err := json.Unmarshal(p.body, &answer); err != nil {
		return nil, fmt.Errorf("read the names of users: %w", err)
	}
	cards := make(map[uuid.UUID]card, len(answer.Items))
	for _, c := range answer.Items {
		cards[c.ID] = c
	}
	return cards, nil
}

// holder holds an answer of status 200 back if it is JSON of at most maxPart, and
// passes every other one on.
type holder struct {
	http.ResponseWriter
	begun   bool
	holding bool
	body    []byte
}

func (h *holder) WriteHeader(status int) {
	if status < http.StatusOK || h.begun {
		h.ResponseWriter.WriteHeader(status)
		return
	}
	h.begun = true
	if status != http.StatusOK {
		// Whatever came between: as a public page's it would be everybody's.
		h.Header()["Cache-Control"] = notKept
	}
	media, _, err := mime.ParseMediaType(h.Header().Get("Content-Type"))
	if h.holding = status == http.StatusOK && err == nil && media == "application/json" &&
		h.Header().Get("Content-Encoding") == ""; !h.holding {
		h.ResponseWriter.WriteHeader(status)
	}
}

func (h *holder) Write(p []byte) (int, error) {
	if !h.begun {
		h.WriteHeader(http.StatusOK)
	}
	if h.holding && len(h.body)+len(p) <= maxPart {
		h.body = append(h.body, p...)
		return len(p), nil
	}
	if h.holding {
		h.holding = false
		h.Header().Set(partialHeader, "user")
		h.ResponseWriter.WriteHeader(http.StatusOK)
		if _, err := h.ResponseWriter.Write(h.body); err != nil {
			return 0, err
		}
	}
	return h.ResponseWriter.Write(p)
}

// FlushError is found by http.ResponseController before Unwrap.
func (h *holder) FlushError() error {
	if h.holding || !h.begun {
		return nil
	}
	return http.NewResponseController(h.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (h *holder) Flush() { _ = h.FlushError() }

func (h *holder) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// release answers with body in place of what is held back.
func (h *holder) release(body []byte) {
	header := h.Header()
	header.Del("ETag")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	h.ResponseWriter.WriteHeader(http.StatusOK)
	// An error means that the client is gone: there is no one to tell.
	_, _ = h.ResponseWriter.Write(body)
}
