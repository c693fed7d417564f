package memstore

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/projections/views"
)

// Visitors implements views.Store.
func (s *Store) Visitors(_ context.Context, id uuid.UUID, p views.Page) ([]views.Visit, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	page := s.newSelection(p)
	for n := s.users[s.userOf[id]].visitors; n != 0; n = s.visits[n].nextOfTarget {
		if v := &s.visits[n]; !s.users[v.actor].hidden {
			page.add(entry{at: v.last, other: v.actor, place: n})
		}
	}
	return s.visitsOf(page), nil
}

// Visits implements views.Store.
func (s *Store) Visits(_ context.Context, id uuid.UUID, p views.Page) ([]views.Visit, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	page := s.newSelection(p)
	for n := s.users[s.userOf[id]].visits; n != 0; n = s.visits[n].nextOfActor {
		page.add(entry{at: s.visits[n].last, other: s.visits[n].target, place: n})
	}
	return s.visitsOf(page), nil
}

// LikesReceived implements views.Store.
func (s *Store) LikesReceived(_ context.Context, id uuid.UUID, p views.Page) ([]views.Like, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	page := s.newSelection(p)
	for n := s.users[s.userOf[id]].likers; n != 0; n = s.likes[n].nextOfTarget {
		if l := &s.likes[n]; s.shown(l) {
			page.add(entry{at: l.at, other: l.actor})
		}
	}
	return s.likesOf(page), nil
}

// LikesGiven implements views.Store.
func (s *Store) LikesGiven(_ context.Context, id uuid.UUID, p views.Page) ([]views.Like, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	page := s.newSelection(p)
	for n := s.users[s.userOf[id]].likes; n != 0; n = s.likes[n].nextOfActor {
		if l := &s.likes[n]; l.at != withdrawn {
			page.add(entry{at: l.at, other: l.target})
		}
	}
	return s.likesOf(page), nil
}

// Matches implements views.Store.
func (s *Store) Matches(_ context.Context, id uuid.UUID, p views.Page) ([]views.Like, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	page := s.newSelection(p)
	for n := s.users[s.userOf[id]].likes; n != 0; n = s.likes[n].nextOfActor {
		if l := &s.likes[n]; s.matched(l) {
			page.add(entry{at: max(l.at, s.likes[l.reverse].at), other: l.target})
		}
	}
	return s.likesOf(page), nil
}

// Bonds implements views.Store.
func (s *Store) Bonds(_ context.Context, pairs []views.Pair) ([]views.Bond, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]views.Bond, len(pairs))
	for i, p := range pairs {
		user, other := s.userOf[p.User], s.userOf[p.Other]
		out[i].Hidden = s.users[other].hidden
		// Nobody has place 0, and no likes.
		to, back := s.likeOf[pairOf(user, other)], s.likeOf[pairOf(other, user)]
		if to != 0 && back != 0 && s.likes[to].at != withdrawn && s.likes[back].at != withdrawn {
			out[i].MatchedAt = timeOf(max(s.likes[to].at, s.likes[back].at))
		}
	}
	return out, nil
}

// Stats implements views.Store.
func (s *Store) Stats(_ context.Context, id uuid.UUID) (views.Stats, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out views.Stats
	u := s.users[s.userOf[id]]
	for n := u.visitors; n != 0; n = s.visits[n].nextOfTarget {
		if v := &s.visits[n]; !s.users[v.actor].hidden {
			out.UniqueVisitors++
			out.VisitsReceived += int64(v.count)
		}
	}
	for n := u.likers; n != 0; n = s.likes[n].nextOfTarget {
		if s.shown(&s.likes[n]) {
			out.LikesReceived++
		}
	}
	for n := u.likes; n != 0; n = s.likes[n].nextOfActor {
		if s.likes[n].at != withdrawn {
			out.LikesGiven++
		}
		if s.matched(&s.likes[n]) {
			out.Matches++
		}
	}
	return out, nil
}

// shown says whether the like stands and its target may see it.
func (s *Store) shown(l *like) bool { return l.at != withdrawn && !s.users[l.actor].hidden }

// matched says whether the like is returned and its actor may see that.
func (s *Store) matched(l *like) bool {
	return l.at != withdrawn && l.reverse != 0 && s.shown(&s.likes[l.reverse])
}

// entry is a candidate for a page.
type entry struct {
	at    int64
	other uint32
	place uint32
}

// selection finds the newest entries after a mark, a page of them, in one pass.
type selection struct {
	store   *Store
	page    views.Page
	afterAt int64
	entries []entry
	full    bool // entries[page.Limit-1] is older than no entry of the page
}

func (s *Store) newSelection(p views.Page) *selection {
	return &selection{store: s, page: p, afterAt: p.After.At.UnixMicro()}
}

func (s *selection) add(e entry) {
	if !s.page.After.IsZero() && (e.at > s.afterAt || e.at == s.afterAt &&
		bytes.Compare(s.store.users[e.other].id[:], s.page.After.User[:]) >= 0) {
		return
	}
	if s.full && s.compare(e, s.entries[s.page.Limit-1]) > 0 {
		return
	}
	s.entries = append(s.entries, e)
	if len(s.entries) >= 2*s.page.Limit {
		s.cut()
		s.full = true
	}
}

// cut sorts the entries and drops those beyond the page.
func (s *selection) cut() {
	slices.SortFunc(s.entries, s.compare)
	s.entries = s.entries[:min(len(s.entries), s.page.Limit)]
}

// compare is negative if a comes before b in a list.
func (s *selection) compare(a, b entry) int {
	switch {
	case a.at > b.at:
		return -1
	case a.at < b.at:
		return 1
	}
	return bytes.Compare(s.store.users[b.other].id[:], s.store.users[a.other].id[:])
}

func (s *Store) visitsOf(page *selection) []views.Visit {
	page.cut()
	out := make([]views.Visit, len(page.entries))
	for i, e := range page.entries {
		v := &s.visits[e.place]
		out[i] = views.Visit{User: s.users[e.other].id, Count: int64(v.count), FirstAt: timeOf(v.first), LastAt: timeOf(v.last)}
	}
	return out
}

func (s *Store) likesOf(page *selection) []views.Like {
	page.cut()
	out := make([]views.Like, len(page.entries))
	for i, e := range page.entries {
		out[i] = views.Like{User: s.users[e.other].id, At: timeOf(e.at)}
	}
	return out
}

func timeOf(micros int64) time.Time { return time.UnixMicro(micros).UTC() }
