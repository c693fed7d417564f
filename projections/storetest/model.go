package storetest

import (
	"bytes"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/projections/views"
)

// paint says what the rules of package views make of a history, word by word and
// with no thought for speed: the reference that every store is compared with.
func paint(h history, users []uuid.UUID) picture {
	type pair struct{ actor, target uuid.UUID }
	visits := make(map[pair]views.Visit)
	likes := make(map[pair]time.Time)
	hidden := make(map[uuid.UUID]bool)
	for _, partition := range h {
		for _, e := range partition {
			var target uuid.UUID
			if a, err := events.ParseActivity(e.Data); err == nil {
				target = a.Target
			}
			p := pair{e.Stream, target}
			switch {
			case p.actor == p.target:
			case e.Type == events.ProfileVisited:
				v, seen := visits[p]
				if !seen || e.OccurredAt.Before(v.FirstAt) {
					v.FirstAt = e.OccurredAt
				}
				if !seen || e.OccurredAt.After(v.LastAt) {
					v.LastAt = e.OccurredAt
				}
				v.Count++
				visits[p] = v
			case e.Type == events.ProfileLiked:
				if _, liked := likes[p]; !liked {
					likes[p] = e.OccurredAt
				}
			case e.Type == events.LikeWithdrawn:
				delete(likes, p)
			case e.Type == events.ActorHidden, e.Type == events.ActorRestored:
				hidden[e.Stream] = e.Type == events.ActorHidden
			}
		}
	}
	out := make(picture, len(users))
	for _, u := range users {
		var p portrait
		for pair, v := range visits {
			if pair.actor == u {
				v.User = pair.target
				p.Visits = append(p.Visits, v)
			}
			if pair.target == u && !hidden[pair.actor] {
				v.User = pair.actor
				p.Visitors = append(p.Visitors, v)
				p.Stats.UniqueVisitors++
				p.Stats.VisitsReceived += v.Count
			}
		}
		for to, at := range likes {
			if to.target == u && !hidden[to.actor] {
				p.LikesReceived = append(p.LikesReceived, views.Like{User: to.actor, At: at})
			}
			if to.actor != u {
				continue
			}
			p.LikesGiven = append(p.LikesGiven, views.Like{User: to.target, At: at})
			if back, ok := likes[pair{to.target, u}]; ok && !hidden[to.target] {
				if back.After(at) {
					at = back
				}
				p.Match = append(p.Match, views.Like{User: to.target, At: at})
			}
		}
		newestFirst(p.Visits, views.Visit.Mark)
		newestFirst(p.Visitors, views.Visit.Mark)
		newestFirst(p.LikesReceived, views.Like.Mark)
		newestFirst(p.LikesGiven, views.Like.Mark)
		newestFirst(p.Match, views.Like.Mark)
		p.Stats.LikesReceived = int64(len(p.LikesReceived))
		p.Stats.LikesGiven = int64(len(p.LikesGiven))
		p.Stats.Matches = int64(len(p.Match))
		out[u] = p
	}
	return out
}

func newestFirst[T any](items []T, mark func(T) views.Mark) {
	slices.SortFunc(items, func(a, b T) int {
		x, y := mark(a), mark(b)
		if n := y.At.Compare(x.At); n != 0 {
			return n
		}
		return bytes.Compare(y.User[:], x.User[:])
	})
}
