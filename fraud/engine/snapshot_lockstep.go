package engine

import "slices"

// locked names all users of whom rules of the aggregate lockstep know something: those who
// acted, and those whom they met.
func (g *Engine) locked(name func(number uint32)) {
	for n, clock := range g.clocks {
		if clock != 0 {
			name(uint32(n)) //nolint:gosec // at most maxUser
		}
	}
	for _, l := range g.locksteps {
		for n := range l.users {
			u := &l.users[n]
			if *u == (lockstepUser{}) {
				continue
			}
			name(uint32(n)) //nolint:gosec // at most maxUser
			for _, b := range u.books() {
				for _, e := range b.entries(g) {
					name(e.other())
				}
			}
		}
	}
}

func (u *lockstepUser) books() [2]*book { return [2]*book{&u.accounts, &u.targets} }

func (g *Engine) snapshotLocksteps(w *snapshotWriter, local []uint32) {
	clocks := 0
	for _, clock := range g.clocks {
		if clock != 0 {
			clocks++
		}
	}
	w.uint(uint64(clocks)) //nolint:gosec // not negative
	for n, clock := range g.clocks {
		if clock != 0 {
			w.uint(uint64(local[n]))
			w.int(clock)
		}
	}
	for _, l := range g.locksteps {
		users := 0
		for n := range l.users {
			if l.users[n] != (lockstepUser{}) {
				users++
			}
		}
		w.uint(uint64(users)) //nolint:gosec // not negative
		for n := range l.users {
			u := &l.users[n]
			if *u == (lockstepUser{}) {
				continue
			}
			w.uint(uint64(local[n]))
			w.int(u.until)
			for _, b := range u.books() {
				w.uint(uint64(b.n)) //nolint:gosec // not negative
			}
			for _, b := range u.books() {
				w.entries(b.entries(g), local)
			}
		}
	}
}

func (g *Engine) restoreLocksteps(r *snapshotReader, numbers []uint32) error {
	highest := uint32(0)
	for _, n := range numbers {
		highest = max(highest, n)
	}
	user := func() uint32 { return numbers[r.uint(uint64(len(numbers)-1))] } //nolint:gosec // not negative
	g.clocks = make([]int64, highest+1)
	for range r.uint(maxUser) {
		n := user()
		if g.clocks[n] = r.int(); r.err != nil {
			return r.fail("it is cut off")
		}
	}
	for _, l := range g.locksteps {
		l.users = make([]lockstepUser, highest+1)
		for range r.uint(maxUser) {
			u := &l.users[user()]
			u.until = r.int()
			accounts, targets := r.uint(uint64(l.accounts)), r.uint(uint64(l.targets)) //nolint:gosec // positive
			if r.err != nil {
				return r.fail("it is cut off")
			}
			for _, b := range []struct {
				*book
				n uint64
			}{{&u.accounts, accounts}, {&u.targets, targets}} {
				entries := b.restore(g, int(b.n)) //nolint:gosec // bounded
				if err := r.entries(entries, numbers); err != nil {
					return err
				}
				if slices.ContainsFunc(entries, func(e entry) bool { return e.other() == 0 }) {
					return r.fail("it names nobody")
				}
			}
		}
	}
	return nil
}

// restore makes room for the entries of a snapshot, which the caller fills in.
func (b *book) restore(g *Engine, n int) []entry {
	if n == 0 {
		return nil
	}
	b.class = classFor(n)
	b.at, b.n = g.entries.alloc(b.class), int32(n) //nolint:gosec // few
	return b.entries(g)
}
