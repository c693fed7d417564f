package engine

// Remember has the engine's rules of the aggregate lockstep remember no more than so many
// accounts of a target and targets of an account, for tests of what is beyond.
func (g *Engine) Remember(accounts, targets int) {
	for _, l := range g.locksteps {
		l.accounts, l.targets = accounts, targets
	}
}
