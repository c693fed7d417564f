package gateway

import "time"

// LookUpEvery has an upstream look its names up so often; before the gateway runs.
func LookUpEvery(u Upstream, d time.Duration) { u.(*remote).balancer.every = d }

// FailedLookups is how many lookups failed.
func FailedLookups(u Upstream) uint64 { return u.(*remote).balancer.lookups[1].Load() }

// Efficiency is the balance of an upstream's instances.
func Efficiency(u Upstream) float64 { return u.(*remote).balancer.efficiency() }

// BreakFor has the breaker stay open so long; before the gateway runs.
func BreakFor(u Upstream, d time.Duration) {
	r := u.(*remote)
	r.breaker = newBreaker(d, &r.opened)
}

// RoomFor has a service take so many requests at once.
func RoomFor(u Upstream, n uint) {
	r := u.(*remote)
	for k := range r.rooms {
		r.rooms[k] = newRoom(n)
	}
}

// RoomInProcess has each service in this process take so many requests at once.
func RoomInProcess(g *Gateway, n uint) {
	for _, u := range g.up.named() {
		l := u.handler.(*local)
		for k := range l.rooms {
			l.rooms[k] = newRoom(n)
		}
	}
}

// Standing is what /readyz says of an upstream, but for who is ready.
func Standing(u Upstream) (instances, ejected, unreachable, draining int, breaker string) {
	s := u.(*remote).standing()
	return s.Instances, s.Ejected, s.Unreachable, s.Draining, s.Breaker
}

// Retries is how many retries were sent and how many the budget denied.
func Retries(u Upstream) (sent, denied uint64) {
	b := u.(*remote).budget
	return b.spent.Load(), b.denied.Load()
}
