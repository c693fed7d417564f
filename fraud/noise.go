package fraud

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/fraud/cost"
)

const (
	// MaxUsersAnHour is how many different users a rule may hit within an hour, by rule
	// time, before it is marked as noisy: more than a few moderators can look at.
	MaxUsersAnHour = 100
	// lookEvery is how often it is looked for rules that have become noisy.
	lookEvery = 10 * time.Second
)

// noise is why a rule wants a look; nothing if it does not.
func (t *tally) noise() (reasons []string) {
	if took := time.Duration(t.cost.Load()); took > cost.Slow {
		reasons = append(reasons, fmt.Sprintf("slow: %v an event, more than %v", took, cost.Slow))
	}
	if n := t.usersInAnHour(); n > MaxUsersAnHour {
		reasons = append(reasons, fmt.Sprintf("hits too many: %d users within an hour, more than %d", n, MaxUsersAnHour))
	}
	return reasons
}

// usersInAnHour is how many different users the rule has hit in the hour before its
// latest hit, of those that are remembered.
func (t *tally) usersInAnHour() int {
	users := make(map[uuid.UUID]bool)
	list := t.recent()
	for _, h := range list {
		if h.at.Before(list[0].at.Add(-time.Hour)) {
			break
		}
		users[h.user] = true
	}
	return len(users)
}

// watch measures what rules cost that are new, and warns of those that have become
// noisy, until ctx ends. That is for people to see, and has no effect.
func (s *Service) watch(ctx context.Context) error {
	warned := make(map[string]bool) // by rule and version
	for {
		for id, t := range s.raiser.program.Load().tallies {
			if ctx.Err() != nil {
				return nil
			}
			if t.cost.Load() == 0 {
				took, err := cost.Measure(t.rule)
				if err != nil {
					return err // it runs: this cannot be
				}
				t.cost.Store(max(1, took.Nanoseconds()))
			}
			reasons := t.noise()
			if name := id + " " + t.version; len(reasons) > 0 && !warned[name] {
				warned[name] = true
				s.deps.Logger.WarnContext(ctx, "a rule is noisy", "rule", id, "version", t.version, "mode", t.rule.Mode, "reasons", slices.Clip(reasons))
			}
		}
		if !sleep(ctx, lookEvery) {
			return nil
		}
	}
}
