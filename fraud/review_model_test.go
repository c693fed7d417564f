package fraud_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
)

// standpoint is where the model has a flag.
type standpoint struct {
	state     string
	escalated bool
}

// modelled is a flag as somebody would keep it who knows the rules from the
// documentation only.
type modelled struct {
	id, user uuid.UUID
	standpoint
	ends time.Time // zero if never
	// moves counts what has brought it to where it stands.
	moves int
}

// allows says where a decision leads to, if the flag's standpoint allows it.
func (m *modelled) allows(decision string, now time.Time) (to standpoint, ok bool) {
	if m.over(now) {
		return standpoint{}, false
	}
	to = m.standpoint
	switch decision + " " + m.state {
	case "confirm open":
		to.state = "confirmed"
	case "dismiss open":
		to.state = "dismissed"
	case "escalate open":
		to.escalated = true
		return to, !m.escalated
	case "uphold appealed":
		to.state = "upheld"
	case "overturn appealed", "overturn confirmed":
		to.state = "overturned"
	default:
		return to, false
	}
	return to, true
}

func (m *modelled) over(now time.Time) bool {
	return m.state == "open" && !m.escalated && !m.ends.IsZero() && !now.Before(m.ends)
}

func (m *modelled) move(to standpoint) { m.standpoint, m.moves = to, m.moves+1 }

// modelledBulk is a bulk operation: where its flags stood before, and at which move
// it has left them.
type modelledBulk struct {
	id     uuid.UUID
	before map[*modelled]standpoint
	left   map[*modelled]int
	undone bool
}

// TestReviewIsWhatAModelSays does everything that moderators, users and time can do
// to flags, in random order, and compares every answer and every state with a
// model. It also follows the log as the user service does: a user is marked exactly
// while a flag is confirmed, appealed or upheld.
func TestReviewIsWhatAModelSays(t *testing.T) {
	w := newWorld(t)
	s := w.sweeping(likesRule("three-likes", 3, 40))
	base := start
	rapid.Check(t, func(rt *rapid.T) {
		base = base.AddDate(0, 0, 1) // what other rounds have left lies in the past
		now := base
		w.clock.Set(now)
		flags := w.drawFlags(rt, base)
		var bulks []*modelledBulk
		path := func(m *modelled) string { return "/v1/moderation/flags/" + m.id.String() }
		want := func(a answer, status int) answer {
			if a.status != status {
				rt.Fatalf("%d %s, want %d", a.status, a.body, status)
			}
			return a
		}
		status := func(ok bool) int {
			if ok {
				return http.StatusOK
			}
			return http.StatusConflict
		}
		decisions := rapid.SampledFrom([]string{"confirm", "dismiss", "escalate", "uphold", "overturn"})
		some := rapid.SliceOfDistinct(rapid.SampledFrom(flags), func(m *modelled) uuid.UUID { return m.id })
		rt.Repeat(map[string]func(*rapid.T){
			"decide": func(rt *rapid.T) {
				m, decision := rapid.SampledFrom(flags).Draw(rt, "flag"), decisions.Draw(rt, "decision")
				to, ok := m.allows(decision, now)
				want(s.decide(m.id, decision), status(ok))
				if ok {
					m.move(to)
				}
			},
			"appeal": func(rt *rapid.T) {
				m := rapid.SampledFrom(flags).Draw(rt, "flag")
				a := s.ask("POST", "/v1/me/appeals", fmt.Sprintf(`{"flag":%q,"text":"please"}`, m.id), m.user)
				if m.state != "confirmed" {
					want(a, http.StatusConflict)
					return
				}
				want(a, http.StatusCreated)
				m.move(standpoint{"appealed", m.escalated})
			},
			"note": func(rt *rapid.T) {
				want(s.ask("POST", path(rapid.SampledFrom(flags).Draw(rt, "flag"))+"/notes", `{"text":"hm"}`, moderator, "moderator"), http.StatusOK)
			},
			"bulk": func(rt *rapid.T) {
				chosen, decision := some.Draw(rt, "flags"), decisions.Draw(rt, "decision")
				dry := rapid.IntRange(0, 3).Draw(rt, "dry") == 0
				asked := fmt.Sprintf(`"ids":%s`, quoted(idsOf(chosen)))
				if len(chosen) == 0 { // then by a filter
					state := rapid.SampledFrom([]string{"open", "confirmed", "appealed"}).Draw(rt, "state")
					asked = fmt.Sprintf(`"filter":{"state":%q,"since":%q}`, state, base.Format(time.RFC3339Nano))
					for _, m := range flags {
						if m.state == state {
							chosen = append(chosen, m)
						}
					}
				}
				var o operation
				want(s.ask("POST", "/v1/moderation/bulk", fmt.Sprintf(`{%s,"decision":%q,"dry_run":%t}`, asked, decision, dry), moderator, "moderator"), http.StatusOK).into(t, &o)
				b := &modelledBulk{id: o.ID, before: map[*modelled]standpoint{}, left: map[*modelled]int{}}
				var changed []uuid.UUID
				for _, m := range chosen {
					to, ok := m.allows(decision, now)
					if !ok {
						continue
					}
					changed = append(changed, m.id)
					if !dry {
						b.before[m] = m.standpoint
						m.move(to)
						b.left[m] = m.moves
					}
				}
				if o.Matched != len(chosen) || !slices.Equal(sorted(o.Items), sorted(changed)) {
					rt.Fatalf("%s matched %d and changed %v, want %d and %v", asked, o.Matched, o.Items, len(chosen), changed)
				}
				if !dry {
					bulks = append(bulks, b)
				}
			},
			"undo": func(rt *rapid.T) {
				if len(bulks) == 0 {
					rt.Skip()
				}
				b := rapid.SampledFrom(bulks).Draw(rt, "bulk")
				a := want(s.undo(b.id), status(!b.undone))
				if b.undone {
					return
				}
				b.undone = true
				var back []uuid.UUID
				for m, before := range b.before {
					if m.moves == b.left[m] {
						m.move(before)
						back = append(back, m.id)
					}
				}
				var o operation
				a.into(t, &o)
				if !slices.Equal(sorted(o.Undone.Items), sorted(back)) {
					rt.Fatalf("back are %v, want %v", o.Undone.Items, back)
				}
			},
			"time goes by": func(rt *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 40).Draw(rt, "minutes")) * time.Minute)
				w.clock.Set(now)
			},
			"": func(rt *rapid.T) {
				byID, over := map[uuid.UUID]*modelled{}, 0
				for _, m := range flags {
					if byID[m.id] = m; m.over(now) {
						m.move(standpoint{"expired", false})
					}
					if m.state == "expired" {
						over++
					}
				}
				var listed []flagged
				until(t, "what is over has expired", func() bool {
					listed, _ = s.flags("?since=" + base.Format(time.RFC3339Nano))
					expired := 0
					for _, f := range listed {
						if f.State == "expired" {
							expired++
						}
					}
					return expired >= over
				})
				if len(listed) != len(flags) {
					rt.Fatalf("%d flags are listed, want %d", len(listed), len(flags))
				}
				for _, f := range listed {
					if m := byID[f.ID]; f.State != m.state || f.Escalated != m.escalated {
						rt.Fatalf("flag %s is %s (escalated: %t), want %+v", f.ID, f.State, f.Escalated, m.standpoint)
					}
				}
			},
		})
		marked := w.marked()
		for _, m := range flags {
			if stands := m.state == "confirmed" || m.state == "appealed" || m.state == "upheld"; marked[m.id] != stands {
				rt.Fatalf("flag %s is %s, and its user is marked by it: %t", m.id, m.state, marked[m.id])
			}
		}
	})
}

func idsOf(list []*modelled) (ids []uuid.UUID) {
	for _, m := range list {
		ids = append(ids, m.id)
	}
	return ids
}

// drawFlags raises some flags, straight in the log.
func (w *world) drawFlags(rt *rapid.T, base time.Time) (flags []*modelled) {
	for range rapid.IntRange(1, 4).Draw(rt, "flags") {
		m := &modelled{id: uuid.New(), user: uuid.New(), standpoint: standpoint{state: "open"}}
		payload := events.Flag{User: m.user, Rule: "three-likes", RuleVersion: "v", Score: 40, Evidence: []events.Evidence{}}
		if minutes := rapid.IntRange(0, 90).Draw(rt, "minutes to live"); minutes > 0 {
			m.ends = base.Add(time.Duration(minutes) * time.Minute)
			payload.ExpiresAt = &m.ends
		}
		data, err := json.Marshal(payload)
		if err != nil {
			rt.Fatal(err)
		}
		e := events.Event{ID: uuid.New(), Type: events.FlagRaised, Stream: m.id, Version: 1, OccurredAt: base, Data: data}
		if _, err := w.fraud.Append(w.Context(), e); err != nil {
			rt.Fatal(err)
		}
		flags = append(flags, m)
	}
	return flags
}

// marked says by which flags users are marked, folded from what the user service
// follows.
func (w *world) marked() map[uuid.UUID]bool {
	out := map[uuid.UUID]bool{}
	for _, e := range w.fraudEvents(w.fraud, "") {
		switch e.Type {
		case events.FlagConfirmed:
			out[e.Stream] = true
		case events.FlagOverturned:
			out[e.Stream] = false
		case events.DecisionUndone:
			u, err := events.Unmarshal[events.UndoneDecision](e)
			if err != nil {
				w.Fatal(err)
			}
			switch u.Undoes {
			case "confirm":
				out[e.Stream] = false
			case "overturn":
				out[e.Stream] = true
			}
		}
	}
	return out
}
