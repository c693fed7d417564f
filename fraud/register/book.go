package register

import (
	"fmt"
	"slices"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/rule"
)

// RuleBook is who defines the rules that ship with the service.
const RuleBook = "rulebook"

// Seed makes the events that bring the register to what a rule book says, as far as
// the book has a say: it defines what is not there, brings up to date what nobody else
// has changed, and retires what was only ever its own and has left it. Each list is one
// append: the events of one rule, and of all rules if the book had none yet. Those very
// first rules concern the whole activity log, of so many partitions, whatever is in it.
func (g *Register) Seed(book []rule.Rule, partitions int, now time.Time) (appends [][]events.Event, err error) {
	known, _ := g.All()
	first := !slices.ContainsFunc(known, Rule.everOfTheBook)
	for _, r := range book {
		k, _ := g.Get(r.ID)
		e, err := k.fromBook(r, now)
		if err != nil {
			return nil, err
		}
		if e.Type == "" {
			continue
		}
		one := []events.Event{e}
		if first && e.Type == events.RuleDefined && r.Mode == rule.Live {
			k.Mode, k.Events = r.Mode, e.Version
			k.ID, k.Versions = r.ID, []Version{{Hash: r.Version()}}
			effect, err := k.TakeEffect(make([]uint64, partitions), now)
			if err != nil {
				return nil, err
			}
			one = append(one, effect)
		}
		if first && len(appends) > 0 {
			appends[0] = append(appends[0], one...)
		} else {
			appends = append(appends, one)
		}
	}
	for _, k := range known {
		left := !slices.ContainsFunc(book, func(r rule.Rule) bool { return r.ID == k.ID })
		if !left || k.others || k.Mode == rule.Retired {
			continue
		}
		e, err := modeChange(k, rule.Retired, Change{At: now, By: RuleBook, Why: "it has left the rule book"})
		if err != nil {
			return nil, err
		}
		appends = append(appends, []events.Event{identified(e)})
	}
	return appends, nil
}

// everOfTheBook says whether a version of the rule was the book's.
func (k Rule) everOfTheBook() bool {
	return slices.ContainsFunc(k.Versions, func(v Version) bool { return v.By == RuleBook })
}

// fromBook is the event that brings the rule to what the book says; one without a
// type if nothing is to be done. Content and mode that somebody else has set stay.
func (k Rule) fromBook(r rule.Rule, now time.Time) (e events.Event, err error) {
	c := Change{At: now, By: RuleBook, Why: "it is in the rule book"}
	switch current := k.Current(); {
	case k.Fault != nil && k.others:
		return events.Event{}, nil
	case k.Events > 0 && current.By != RuleBook:
		return events.Event{}, nil
	case current.Hash != r.Version():
		if k.Events > 0 && k.modeBy != RuleBook {
			r.Mode = k.Mode
		}
		e, err = definition(k, r, c)
	case k.Mode != r.Mode && k.modeBy == RuleBook:
		c.Why = "the rule book has changed"
		e, err = modeChange(k, r.Mode, c)
	}
	if e.Type == "" || err != nil {
		return events.Event{}, err
	}
	return identified(e), nil
}

// identified gives an event of the book its ID. Another instance may be at the same:
// its event has it too.
func identified(e events.Event) events.Event {
	e.ID = events.DeriveID(e.Stream, fmt.Sprintf("%d %s", e.Version, e.Data))
	return e
}
