// Package simulation makes up members and what they do: honest ones, who visit
// and like at human pace, and cheats of several kinds.
//
// It promises that the same Config gives the same members and acts, that another
// Config gives other acts, and acts in order of time.
package simulation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/events"
)

// MaxMembers bounds a simulation, which is held in memory: about 20 kB a member.
const MaxMembers = 100_000

// space is the name space of the UUIDs made here.
var space = uuid.MustParse("0b9a4c1e-5d27-5e63-8f41-7a6c2b9d0e18")

// Behaviour is how a member acts.
type Behaviour string

// The behaviours. What a rule makes of them is not for this package to know.
const (
	Honest  Behaviour = "honest"  // some sessions a day, more visits than likes
	Storm   Behaviour = "storm"   // visits and likes 120 people within 10 minutes of joining
	Scraper Behaviour = "scraper" // visits 400 profiles within an hour, likes none
	Likes   Behaviour = "likes"   // likes 80 people within a minute
	Robot   Behaviour = "robot"   // visits somebody every 30 seconds to the second, for hours
)

// Cheats are the behaviours that are not honest.
func Cheats() []Behaviour { return []Behaviour{Storm, Scraper, Likes, Robot} }

// Config of a simulation.
type Config struct {
	Seed    uint64
	Members int       // 10 to MaxMembers
	Until   time.Time // when the last act happens at the latest
	Days    int       // how long before Until the first member joins, 1 to 365
	// CheatsPer is how many of each kind of cheat there are per 100 members; at
	// least one of each.
	CheatsPer int
}

// Validate reports the first fault.
func (c Config) Validate() error {
	switch {
	case c.Members < 10 || c.Members > MaxMembers:
		return fmt.Errorf("members: want 10 to %d, not %d", MaxMembers, c.Members)
	case c.Days < 1 || c.Days > 365:
		return fmt.Errorf("days: want 1 to 365, not %d", c.Days)
	case c.CheatsPer < 0 || c.CheatsPer > 20:
		return fmt.Errorf("cheats: want 0 to 20 per 100 members, not %d", c.CheatsPer)
	}
	return nil
}

// Member is a made-up account.
type Member struct {
	ID          uuid.UUID
	Handle      string
	DisplayName string
	JoinedAt    time.Time
	Behaviour   Behaviour
}

// Act is one activity.
type Act struct {
	ID     uuid.UUID
	Kind   activity.Kind
	Actor  *Member
	Target *Member
	At     time.Time
}

// World is a simulation's outcome.
type World struct {
	Members []*Member
	Acts    []Act // in order of time
}

var firstNames = []string{
	"Ada", "Ben", "Clara", "David", "Elif", "Finn", "Greta", "Hugo", "Ida", "Jonas", "Kira", "Luis", "Mila", "Noah", "Olga",
	"Paul", "Quentin", "Rosa", "Sami", "Tara", "Uwe", "Vera", "Wim", "Xenia", "Yusuf", "Zoe",
}

// New plays a simulation through.
func New(c Config) (*World, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	w := &World{}
	random := rand.New(rand.NewPCG(c.Seed, 0x6d656574)) //nolint:gosec // repeatable on purpose
	start := c.Until.AddDate(0, 0, -c.Days).Truncate(time.Microsecond)
	cheats := max(1, c.Members*c.CheatsPer/100)
	for i := range c.Members {
		m := &Member{Behaviour: Honest}
		if kind := i / cheats; kind < len(Cheats()) && c.CheatsPer > 0 {
			m.Behaviour = Cheats()[kind]
		}
		name := firstNames[random.IntN(len(firstNames))]
		m.ID = events.DeriveID(space, fmt.Sprintf("%d/member/%d", c.Seed, i))
		// Simulations may share an installation: at most 28 characters, of which an
		// account's handle can have 30.
		m.Handle = fmt.Sprintf("%s.%d.%s", lower(name), i+1, strconv.FormatUint(c.Seed, 36))
		m.DisplayName = name
		// Most were there at the start; cheats and the rest come in later.
		if m.JoinedAt = start; m.Behaviour != Honest || random.IntN(4) == 0 {
			m.JoinedAt = start.Add(time.Duration(random.Float64() * 0.8 * float64(c.Until.Sub(start)))).Truncate(time.Microsecond)
		}
		w.Members = append(w.Members, m)
	}
	for _, m := range w.Members {
		w.act(random, m, c.Until)
	}
	slices.SortStableFunc(w.Acts, func(a, b Act) int { return a.At.Compare(b.At) })
	w.Acts = slices.DeleteFunc(w.Acts, func(a Act) bool { return a.At.After(c.Until) })
	for i := range w.Acts {
		w.Acts[i].ID = events.DeriveID(space, fmt.Sprintf("%d/act/%d/%d/%d/%d/%d", c.Seed, c.Until.UnixMicro(), c.Members, c.Days, c.CheatsPer, i))
	}
	return w, nil
}

func lower(s string) string { return string(s[0]|0x20) + s[1:] }

// act adds all that one member does.
func (w *World) act(random *rand.Rand, m *Member, until time.Time) {
	at := m.JoinedAt
	wait := func(d time.Duration) { at = at.Add(d) }
	add := func(k activity.Kind, target *Member) {
		w.Acts = append(w.Acts, Act{Kind: k, Actor: m, Target: target, At: at})
	}
	switch m.Behaviour {
	case Storm:
		for _, target := range w.others(random, m, 120) {
			wait(2 * time.Second)
			add(activity.Visit, target)
			wait(2 * time.Second)
			add(activity.Like, target)
		}
	case Scraper:
		wait(time.Hour)
		for _, target := range w.others(random, m, 400) {
			wait(time.Duration(4+random.IntN(8)) * time.Second)
			add(activity.Visit, target)
		}
	case Likes:
		wait(3 * time.Hour)
		for _, target := range w.others(random, m, 80) {
			wait(700 * time.Millisecond)
			add(activity.Like, target)
		}
	case Robot:
		for range 600 {
			wait(30 * time.Second)
			add(activity.Visit, w.popular(random, m))
		}
	default:
		for at.Before(until) {
			wait(time.Duration(random.ExpFloat64() * float64(16*time.Hour)))
			for range 1 + random.IntN(8) { // one session
				wait(time.Duration(15+random.ExpFloat64()*60) * time.Second)
				target := w.popular(random, m)
				add(activity.Visit, target)
				if random.IntN(5) == 0 {
					wait(time.Duration(2+random.IntN(10)) * time.Second)
					add(activity.Like, target)
					if random.IntN(12) == 0 {
						wait(time.Minute)
						add(activity.Unlike, target)
					}
				}
			}
		}
	}
}

// popular picks somebody else, the first members far more often than the last.
func (w *World) popular(random *rand.Rand, not *Member) *Member {
	for {
		f := random.Float64()
		if m := w.Members[len(w.Members)-1-int(f*f*float64(len(w.Members)))]; m != not {
			return m
		}
	}
}

// others picks up to n different others.
func (w *World) others(random *rand.Rand, not *Member, n int) []*Member {
	var out []*Member
	for _, i := range random.Perm(len(w.Members)) {
		if w.Members[i] != not && len(out) < n {
			out = append(out, w.Members[i])
		}
	}
	return out
}
