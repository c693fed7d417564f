package engine_test

import (
	"bytes"
	stdcmp "cmp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/rule"
)

// naive is a rule of the aggregate lockstep, written down from its definition.
type naive struct {
	rule              rule.Rule
	accounts, targets int // remembered
	clocks            map[uuid.UUID]time.Time
	met, own          map[uuid.UUID][]meeting // by target, and by account
	held              map[uuid.UUID]time.Time
}

type meeting struct {
	other uuid.UUID
	at    time.Time
	place events.Position
}

func newNaive(r rule.Rule, accounts, targets int) *naive {
	return &naive{
		r, accounts, targets, map[uuid.UUID]time.Time{}, map[uuid.UUID][]meeting{}, map[uuid.UUID][]meeting{}, map[uuid.UUID]time.Time{},
	}
}

// remember puts a meeting behind the others.
func remember(list []meeting, m meeting, from time.Time, most int) []meeting {
	var out []meeting
	for _, old := range list {
		if old.other != m.other && !old.at.Before(from) {
			out = append(out, old)
		}
	}
	out = append(out, m)
	return out[max(0, len(out)-most):]
}

func (n *naive) process(e events.Recorded) (hits []found) {
	kind, ok := kindOf[e.Type]
	a, err := events.ParseActivity(e.Data)
	if !ok || err != nil {
		return nil
	}
	account, target, at := e.Stream, a.Target, events.RuleTime(e, a)
	if at.Before(n.clocks[account]) {
		at = n.clocks[account]
	}
	n.clocks[account] = at
	if !slices.Contains(n.rule.Events, kind) || !holds(n.rule.Where, at, at.Sub(a.JoinedAt)) {
		return nil
	}
	window := time.Duration(n.rule.Window.Sliding)
	from := at.Add(-window)
	n.met[target] = remember(n.met[target], meeting{account, at, e.Position}, from, n.accounts)
	n.own[account] = remember(n.own[account], meeting{target, at, e.Position}, from, n.targets)

	accounts, targets := map[uuid.UUID]bool{}, map[uuid.UUID]bool{}
	for _, m := range n.met[target] {
		accounts[m.other] = true
	}
	for _, m := range n.own[account] {
		targets[m.other] = true
	}
	// between is when an account met a target, if it did in the window.
	between := func(account, target uuid.UUID) (meeting, bool) {
		for _, m := range n.own[account] {
			if m.other == target && !m.at.Before(from) {
				return m, true
			}
		}
		return meeting{}, false
	}
	// One that has too few of the others is taken out, until there is none.
	for again := true; again; {
		again = false
		for account := range accounts {
			with := 0
			for target := range targets {
				if _, ok := between(account, target); ok {
					with++
				}
			}
			if with < n.rule.Lockstep.Targets {
				delete(accounts, account)
				again = true
				break
			}
		}
		for target := range targets {
			with := 0
			for account := range accounts {
				if _, ok := between(account, target); ok {
					with++
				}
			}
			if with < n.rule.Threshold {
				delete(targets, target)
				again = true
				break
			}
		}
	}
	if !accounts[account] || !targets[target] {
		return nil
	}
	var rests []seen
	var users []uuid.UUID
	for account := range accounts {
		for target := range targets {
			if m, ok := between(account, target); ok {
				rests = append(rests, seen{at: m.at, place: m.place})
			}
		}
		if held, ok := n.held[account]; !ok || at.Sub(held) > window {
			users = append(users, account)
		}
		if at.After(n.held[account]) {
			n.held[account] = at
		}
	}
	slices.SortFunc(users, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	for _, user := range users {
		hits = append(hits, found{n.rule.ID, user, at, e.Position, len(accounts), positions(rests)})
	}
	return hits
}

func lockstep(accounts, targets int, window time.Duration) rule.Rule {
	return rule.Rule{
		ID: "lockstep", Title: "t", Key: rule.KeyActor, Events: []rule.Kind{rule.Like}, Aggregate: rule.InLockstep,
		Lockstep: &rule.Lockstep{Targets: targets}, Window: rule.Window{Sliding: rule.Duration(window)},
		Threshold: accounts, Effect: rule.Flag, Mode: rule.Live,
	}
}

// member is one of those who meet, whose IDs are in another order than their numbers.
func member(n int) uuid.UUID { return uuid.UUID{3, byte(n * 97), byte(n)} }

// drawMeetings draws the events of all partitions, of some accounts on a few targets, who
// are accounts themselves.
func drawMeetings(t *rapid.T, partitions int) []events.Recorded {
	accounts, targets := rapid.IntRange(2, 9).Draw(t, "accounts"), rapid.IntRange(2, 7).Draw(t, "targets")
	sequences := make([]uint64, partitions)
	recorded := start
	out := make([]events.Recorded, 0, 200)
	for i := range rapid.IntRange(0, 200).Draw(t, "events") {
		recorded = recorded.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "gap")) * time.Second / 2)
		if rapid.IntRange(0, 40).Draw(t, "pause") == 0 {
			recorded = recorded.Add(time.Minute)
		}
		account := rapid.IntRange(1, accounts).Draw(t, "account")
		a := events.Activity{
			Target: member(rapid.IntRange(1, targets).Draw(t, "target")), JoinedAt: start.Add(time.Duration(account-3) * 20 * time.Second),
			Trusted: rapid.IntRange(0, 9).Draw(t, "trusted") == 0,
		}
		partition := account % partitions
		sequences[partition]++
		e := events.Recorded{
			Event: events.Event{
				ID: uuid.UUID{2, byte(i)}, Stream: member(account), Data: a.AppendJSON(nil),
				Type: rapid.SampledFrom([]string{
					events.ProfileLiked, events.ProfileLiked, events.ProfileLiked, events.ProfileVisited, events.LikeWithdrawn, events.ActorHidden,
				}).Draw(t, "type"),
				OccurredAt: recorded.Add(time.Duration(rapid.IntRange(-20, 5).Draw(t, "late")) * time.Second),
			},
			Position: events.Position{Partition: partition, Sequence: sequences[partition]}, RecordedAt: recorded,
		}
		if rapid.IntRange(0, 60).Draw(t, "broken") == 0 {
			e.Data = []byte(`{"target":`)
		}
		out = append(out, e)
	}
	return out
}

func newOrdered(t fataler, users *engine.Users, partitions int, rules ...rule.Rule) *engine.Engine {
	t.Helper()
	g, err := engine.NewOrdered(users, rules, partitions)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestLockstepFindsWhatItsDefinitionSays(t *testing.T) {
	const partitions = 5
	rapid.Check(t, func(t *rapid.T) {
		// Beside it another lockstep and a rule by target.
		var oracles []*naive
		byTarget := lockstep(1, 2, time.Minute)
		byTarget.ID, byTarget.Key, byTarget.Aggregate, byTarget.Lockstep, byTarget.Threshold = "by-target", rule.KeyTarget, rule.Distinct, nil, 3
		rules := []rule.Rule{byTarget}
		accounts, targets := rapid.IntRange(2, 10).Draw(t, "remembered accounts"), rapid.IntRange(2, 8).Draw(t, "remembered targets")
		for _, id := range []string{"one", "other"}[:rapid.IntRange(1, 2).Draw(t, "rules")] {
			window := time.Duration(rapid.IntRange(2, 90).Draw(t, "window")) * time.Second
			r := lockstep(rapid.IntRange(2, 4).Draw(t, "threshold"), rapid.IntRange(2, 4).Draw(t, "locked targets"), window)
			r.ID, r.Where = id, drawWhere(t)
			r.Where.Target = ""
			r.Events = rapid.SampledFrom([][]rule.Kind{{rule.Like}, {rule.Visit, rule.Like}}).Draw(t, "kinds")
			oracles = append(oracles, newNaive(r, accounts, targets))
			rules = slices.Insert(rules, rapid.IntRange(0, 1).Draw(t, "place"), r)
		}
		old := newOracle([]rule.Rule{byTarget})
		old.byTarget = true
		evs := drawMeetings(t, partitions)
		restored := rapid.IntRange(0, len(evs)).Draw(t, "restored after")
		g := newOrdered(t, engine.NewUsers(), partitions, rules...)
		g.Remember(accounts, targets)
		for i := range evs {
			if i == restored {
				users := engine.NewUsers()
				before := newOrdered(t, users, partitions, rules...)
				for j := len(evs) - 1; j >= 0; j -= 3 { // others have come before in this process
					before.Process(&evs[j], nil)
				}
				from := snapshot(t, g)
				g = newOrdered(t, users, partitions, rules...)
				g.Remember(accounts, targets)
				if err := g.Restore(bytes.NewReader(from)); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(len(from), len(snapshot(t, g))); diff != "" {
					t.Fatalf("its own snapshot has another size:\n%s", diff)
				}
			}
			want := old.process(evs[i])
			for _, o := range slices.SortedFunc(slices.Values(oracles), func(a, b *naive) int {
				return indexOf(rules, a.rule.ID) - indexOf(rules, b.rule.ID)
			}) {
				want = append(want, o.process(evs[i])...)
			}
			got := tell(g.Process(&evs[i], nil))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("event %d (-want +got):\n%s", i+1, diff)
			}
		}
	})
}

func indexOf(rules []rule.Rule, id string) int {
	return slices.IndexFunc(rules, func(r rule.Rule) bool { return r.ID == id })
}

// meet makes an event of one account on one target, so long after the start.
func meet(account, target int, after time.Duration, sequence uint64) events.Recorded {
	at := start.Add(after)
	return events.Recorded{
		Event: events.Event{
			ID: numbered(3, int(sequence)), Type: events.ProfileLiked, Stream: numbered(1, account), OccurredAt: at, //nolint:gosec // small
			Data: events.Activity{Target: numbered(2, target), JoinedAt: start.AddDate(-1, 0, 0)}.AppendJSON(nil),
		},
		Position: events.Position{Sequence: sequence}, RecordedAt: at,
	}
}

func TestAWholeGroupIsFoundInWhateverOrderItsEventsCome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, m := rapid.IntRange(2, 6).Draw(t, "accounts"), rapid.IntRange(2, 5).Draw(t, "targets")
		type pair struct{ account, target int }
		var pairs []pair
		for account := range k {
			for target := range m {
				pairs = append(pairs, pair{account, target})
			}
		}
		for range rapid.IntRange(0, 40).Draw(t, "others") { // too few at a target to be in a core
			pairs = append(pairs, pair{k + rapid.IntRange(0, 20).Draw(t, "account"), rapid.IntRange(0, 20).Draw(t, "target")})
		}
		shuffled := rapid.Permutation(pairs).Draw(t, "order")
		g := newOrdered(t, engine.NewUsers(), 1, lockstep(k, m, time.Hour))
		hit := map[uuid.UUID]int{}
		for i, p := range shuffled {
			at := time.Duration(rapid.IntRange(0, 1800).Draw(t, "at")) * time.Second // back and forth
			e := meet(p.account, p.target, at, uint64(i+1))                          //nolint:gosec // positive
			for _, h := range g.Process(&e, nil) {
				hit[h.User]++
			}
		}
		for account := range k {
			if n := hit[numbered(1, account)]; n != 1 {
				t.Fatalf("account %d of the group was hit %d times", account, n)
			}
		}
	})
}

func TestAnAccountIsHitAgainOnlyAfterAWindowInWhichNoCoreHeldIt(t *testing.T) {
	const window = time.Hour
	g := newOrdered(t, engine.NewUsers(), 1, lockstep(3, 2, window))
	sequence := uint64(0)
	hits := func(account, target int, after time.Duration) (users int) {
		sequence++
		e := meet(account, target, after, sequence)
		return len(g.Process(&e, nil))
	}
	group := func(at time.Duration) (users int) {
		for account := range 3 {
			users += hits(account, 0, at) + hits(account, 1, at)
		}
		return users
	}
	if n := group(0); n != 3 {
		t.Errorf("%d hits at first", n)
	}
	for at := 40 * time.Minute; at < 5*time.Hour; at += 40 * time.Minute {
		if n := group(at); n != 0 {
			t.Errorf("%d hits after %v, while the group goes on", n, at)
		}
	}
	last := 280 * time.Minute
	if n := group(last + window); n != 0 {
		t.Errorf("%d hits exactly a window after the last", n)
	}
	if n := group(last + 2*window + time.Microsecond); n != 3 {
		t.Errorf("%d hits more than a window later", n)
	}
	// Who joins them is hit, the others are not.
	if n := hits(7, 0, last+2*window+time.Minute) + hits(7, 1, last+2*window+time.Minute); n != 1 {
		t.Errorf("%d hits of one who joins them", n)
	}
}

func TestAHitOfManyShowsTheLatestAndWhoDidIt(t *testing.T) {
	const accounts, targets = rule.LockstepAccounts / 2, rule.LockstepTargets / 2
	r := lockstep(accounts, targets, 30*24*time.Hour)
	g := newOrdered(t, engine.NewUsers(), 1, r)
	var all []events.Recorded
	var hits []engine.Hit
	for target := range targets {
		for account := range accounts {
			e := meet(account, target, time.Duration(len(all))*time.Second, uint64(len(all)+1))
			all = append(all, e)
			hits = g.Process(&e, hits)
			if last := len(all) == accounts*targets; last != (len(hits) > 0) {
				t.Fatalf("%d hits after %d events", len(hits), len(all))
			}
		}
	}
	if len(hits) != accounts || !slices.IsSortedFunc(hits, func(a, b engine.Hit) int { return stdcmp.Compare(a.User.String(), b.User.String()) }) {
		t.Fatalf("%d hits", len(hits))
	}
	shown := all[len(all)-engine.MaxOthersEvidence:]
	ids := map[uuid.UUID]bool{}
	for _, h := range hits {
		if h.Observed != accounts || len(h.Evidence) != len(all) || h.Position != all[len(all)-1].Position {
			t.Fatalf("observed %d at %v on %d events", h.Observed, h.Position, len(h.Evidence))
		}
		raised, err := h.Flag(shown)
		if err != nil {
			t.Fatal(err)
		}
		if err := raised.Validate(); err != nil {
			t.Fatal(err)
		}
		ids[raised.Stream] = true
		f, err := events.Unmarshal[events.Flag](events.Recorded{Event: raised})
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range f.Evidence {
			if own := e.Actor == uuid.Nil; own != (shown[i].Stream == h.User) || !own && e.Actor != shown[i].Stream {
				t.Fatalf("event %d of %s was done by %s, the flag says %s", i, h.User, shown[i].Stream, e.Actor)
			}
		}
	}
	if len(ids) != accounts {
		t.Errorf("%d flags", len(ids))
	}
}
