package simulation_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/cmd/simulation"
)

var config = simulation.Config{Seed: 7, Members: 300, Days: 3, CheatsPer: 1, Until: time.Date(2026, 1, 8, 0, 0, 0, 0, time.UTC)}

func TestTheSameSeedGivesTheSameWorld(t *testing.T) {
	one, err := simulation.New(config)
	if err != nil {
		t.Fatal(err)
	}
	two, err := simulation.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(one, two) {
		t.Fatal("two worlds of one seed differ")
	}
	other := config
	other.Seed++
	if three, _ := simulation.New(other); reflect.DeepEqual(one.Acts, three.Acts) {
		t.Fatal("another seed gives the same acts")
	}
}

func TestActsAreInOrderAndPossible(t *testing.T) {
	w, err := simulation.New(config)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range w.Acts {
		switch {
		case i > 0 && a.At.Before(w.Acts[i-1].At):
			t.Fatalf("act %d is before the one before it", i)
		case a.At.Before(a.Actor.JoinedAt) || a.At.After(config.Until):
			t.Fatalf("act %d at %v, the actor joined at %v", i, a.At, a.Actor.JoinedAt)
		case a.Actor == a.Target:
			t.Fatalf("act %d is on oneself", i)
		}
	}
}

func TestEveryKindOfCheatDoesWhatItsNameSays(t *testing.T) {
	w, err := simulation.New(config)
	if err != nil {
		t.Fatal(err)
	}
	count := map[simulation.Behaviour]map[activity.Kind]int{}
	for _, a := range w.Acts {
		if count[a.Actor.Behaviour] == nil {
			count[a.Actor.Behaviour] = map[activity.Kind]int{}
		}
		if a.Actor.Behaviour != simulation.Storm || a.At.Sub(a.Actor.JoinedAt) <= 10*time.Minute {
			count[a.Actor.Behaviour][a.Kind]++
		}
	}
	for _, c := range []struct {
		behaviour simulation.Behaviour
		kind      activity.Kind
		want      int // from each of three
	}{
		{simulation.Storm, activity.Visit, 120}, {simulation.Storm, activity.Like, 120},
		{simulation.Scraper, activity.Visit, 299}, {simulation.Likes, activity.Like, 80}, {simulation.Robot, activity.Visit, 600},
	} {
		if got := count[c.behaviour][c.kind]; got != 3*c.want {
			t.Errorf("%s: %d of %s, want %d", c.behaviour, got, c.kind, 3*c.want)
		}
	}
}

func TestAConfigOutOfBoundsIsRefusedByName(t *testing.T) {
	for name, spoil := range map[string]func(*simulation.Config){
		"members": func(c *simulation.Config) { c.Members = 9 },
		"days":    func(c *simulation.Config) { c.Days = 0 },
		"cheats":  func(c *simulation.Config) { c.CheatsPer = 21 },
	} {
		c := config
		spoil(&c)
		if _, err := simulation.New(c); err == nil || err.Error()[:len(name)] != name {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWorldsOfDifferentConfigsShareNoActAndNoHandle(t *testing.T) {
	acts, handles := map[uuid.UUID]simulation.Config{}, map[string]uint64{}
	for _, change := range []func(*simulation.Config){
		func(*simulation.Config) {}, func(c *simulation.Config) { c.Seed++ }, func(c *simulation.Config) { c.Seed = 1<<64 - 1 },
		func(c *simulation.Config) { c.Members++ }, func(c *simulation.Config) { c.Days++ }, func(c *simulation.Config) { c.CheatsPer++ },
		func(c *simulation.Config) { c.Until = c.Until.Add(time.Hour) },
	} {
		c := config
		change(&c)
		w, err := simulation.New(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range w.Acts {
			if other, shared := acts[a.ID]; shared {
				t.Fatalf("%+v and %+v share act %s", c, other, a.ID)
			}
			acts[a.ID] = c
		}
		for _, m := range w.Members {
			if seed, shared := handles[m.Handle]; shared && seed != c.Seed {
				t.Fatalf("the seeds %d and %d share the handle %s", c.Seed, seed, m.Handle)
			}
			if len(m.Handle) > 30 {
				t.Fatalf("no account can have the handle %s", m.Handle)
			}
			handles[m.Handle] = c.Seed
		}
	}
}
