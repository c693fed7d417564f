package log_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// Bounds of one schedule. They are small on purpose: what goes wrong with two
// writers and five appends is found sooner in many short schedules than in few
// long ones, and is easier to read.
const (
	simMaxSteps     = 150
	simMaxProcesses = 5
	simMaxAppends   = 12
	// simMaxDrainSteps bounds how long the appends may take to be answered once
	// there are no more faults.
	simMaxDrainSteps = 5000
	// simPatience is how long after the last fault an append may still end without
	// a definite answer.
	simPatience = log.DefaultTimeout / 2
)

// simulation is one schedule: what happens follows from the seed alone.
type simulation struct {
	random *rand.Rand
	trace  io.Writer // nil writes none
	stale  bool      // reads may show what was so a while ago, until the faults end
	faults int       // of 100 calls, how many go wrong

	store     *simStore
	began     time.Time
	step      int
	started   int // processes
	processes []*simProcess
	all       []*simProcess
	clients   simClients
	calmSince time.Time // when the faults ended, if they have
	broken    error     // the first promise that was
}

// simulate runs the schedule of a seed in the bubble it is called in and says
// which promise was broken.
func simulate(seed uint64, stale bool, trace io.Writer) error {
	r := rand.New(rand.NewPCG(seed, 0x6d656574))
	s := &simulation{
		random: r, trace: trace, stale: stale, began: time.Now(),
		faults: []int{0, 5, 20, 50}[r.IntN(4)],
		store:  newSimStore(1 + r.IntN(2)),
	}
	s.store.mu.Lock() // the schedule holds it except while others run
	defer s.store.mu.Unlock()
	s.clients = newSimClients(s)
	s.note("faults %d%%, partitions %d, stale reads %t", s.faults, len(s.store.parts), stale)
	for range 2 + r.IntN(simMaxProcesses-1) {
		s.start()
	}
	s.run()
	s.end()
	return s.broken
}

func (s *simulation) note(format string, args ...any) {
	if s.trace != nil {
		fmt.Fprintf(s.trace, "%4d %12s  %s\n", s.step, time.Since(s.began), fmt.Sprintf(format, args...))
	}
}

// breaks records that a promise was broken.
func (s *simulation) breaks(format string, args ...any) {
	if s.broken == nil {
		s.broken = fmt.Errorf(format, args...)
		s.note("BROKEN: %v", s.broken)
	}
}

func (s *simulation) id() (id uuid.UUID) {
	for i := range id {
		id[i] = byte(s.random.Uint32())
	}
	return id
}

func simName(id uuid.UUID) string { return id.String()[:6] }

// percent draws true so many times in a hundred.
func (s *simulation) percent(n int) bool { return s.random.IntN(100) < n }

// start brings up a process that knows nothing yet. Its clock may be wrong.
func (s *simulation) start() {
	p := &simProcess{
		store: s.store, number: s.started, id: s.id(),
		calls: make([]int, len(s.store.parts)), written: make([][]events.Commit, len(s.store.parts)),
	}
	yields := rand.New(rand.NewPCG(s.random.Uint64(), 0))
	skew := time.Duration(s.random.IntN(5)-2) * time.Second
	linger := time.Duration(s.random.IntN(2)) * log.DefaultLinger
	p.log = log.New(p, log.Options{
		Writer:    p.id,
		Linger:    linger,
		Clock:     func() time.Time { return time.Now().Add(skew) },
		Random:    yields.Float64, // one goroutine at a time loses
		Committed: func(c events.Commit) { p.written[c.Partition] = append(p.written[c.Partition], c) },
		Backoff: func(ctx context.Context, n int) error {
			if p.crashed() {
				return errCrashed
			}
			return log.Backoff(ctx, n)
		},
	})
	s.started++
	s.processes = append(s.processes, p)
	s.all = append(s.all, p)
	s.note("w%d starts, writer %s, clock %v off", p.number, simName(p.id), skew)
}

// run plays steps until every append is answered or the steps are used up.
func (s *simulation) run() {
	for s.step < simMaxSteps && s.broken == nil && (s.clients.left > 0 || len(s.clients.open) > 0) {
		s.play()
	}
	s.drain()
	if s.broken == nil {
		s.clients.settle()
		s.drain()
	}
	if s.broken == nil {
		s.clients.check()
	}
}

// calm is how long ago the faults ended.
func (s *simulation) calm() time.Duration {
	if s.calmSince.IsZero() {
		return 0
	}
	return time.Since(s.calmSince)
}

// play draws one step, lets everybody do what follows from it, and looks at the
// answers.
func (s *simulation) play() {
	s.step++
	s.draw()
	s.wait()
	s.clients.collect()
}

// wait lets everybody run until they can go no further.
func (s *simulation) wait() {
	s.store.mu.Unlock()
	synctest.Wait()
	s.store.mu.Lock()
}

func (s *simulation) draw() {
	switch n := s.random.IntN(100); {
	case n < 25 && s.clients.left > 0:
		s.clients.submit()
	case n < 80 && len(s.store.calls) > 0:
		s.serve(s.store.calls[s.random.IntN(len(s.store.calls))])
	case n < 84 && len(s.store.wire) > 0:
		s.arrive(s.random.IntN(len(s.store.wire)))
	case n < 87:
		part := s.random.IntN(len(s.store.parts))
		p := s.store.parts[part]
		if behind := len(p.primary) - len(p.durable.commits); behind > 0 {
			s.replicate(part, len(p.durable.commits)+1+s.random.IntN(behind))
		}
	case n < 89 && s.percent(s.faults):
		part := s.random.IntN(len(s.store.parts))
		if lost := s.store.parts[part].fail(); lost > 0 {
			s.note("the primary of %d fails, %d commits are rolled back", part, lost)
		}
	case n < 91 && s.percent(s.faults):
		s.crash(s.random.IntN(len(s.processes)))
	case n < 93 && len(s.clients.open) > 0:
		s.clients.giveUp(s.random.IntN(len(s.clients.open)))
	case s.percent(5):
		s.sleep(log.DefaultTimeout, log.DefaultTimeout)
	default:
		s.sleep(0, []time.Duration{5 * time.Millisecond, 50 * time.Millisecond, time.Second}[s.random.IntN(3)])
	}
}

// sleep lets time pass: d and up to so much more. Odd nanoseconds keep deadlines
// and pauses from ending at one instant, which would leave it to the runtime which
// comes first.
func (s *simulation) sleep(d, more time.Duration) {
	s.store.mu.Unlock()
	time.Sleep(d + time.Duration(s.random.Int64N(int64(more))) | 1)
	s.store.mu.Lock()
	s.note("time passes")
}

// serve lets a parked call come one way further.
func (s *simulation) serve(c *simCall) {
	wrong := s.percent(s.faults)
	how := s.random.IntN(3)
	switch {
	case c.performed && wrong:
		c.err = errLost
		s.answer(c, "the answer is lost")
	case c.performed:
		s.deliver(c)
	case wrong && how == 0:
		c.err = errLost
		s.answer(c, "is lost")
	case wrong && how == 1 && c.kind == simInsert:
		s.store.wire = insertSorted(s.store.wire, c)
		c.err = errLost
		s.answer(c, "is held up, the caller is told that it is lost")
	case wrong:
		s.perform(c)
		if c.kind == simRead && len(c.commits) > 0 {
			c.commits = c.commits[:s.random.IntN(len(c.commits))]
		}
		c.err = errLost
		s.answer(c, "is performed, the answer is lost")
	case how == 0:
		s.perform(c)
		s.note("%v is performed: %v", c, c.err)
	default:
		s.perform(c)
		s.deliver(c)
	}
}

func (s *simulation) perform(c *simCall) {
	p := s.store.parts[c.partition]
	c.performed = true
	if c.kind == simInsert {
		c.err = p.apply(c)
		return
	}
	n := len(p.durable.commits)
	if s.stale && s.calm() == 0 && s.percent(30) {
		n = s.random.IntN(n + 1)
	}
	p.durable.read(c, n)
}

// deliver gives a performed call its true answer. That an insert was taken is
// said when a majority has it.
func (s *simulation) deliver(c *simCall) {
	if c.kind == simInsert && c.err == nil {
		primary := s.store.parts[c.partition].primary
		i := slices.IndexFunc(primary, func(e simEntry) bool { return e.from == c })
		s.replicate(c.partition, max(i+1, len(s.store.parts[c.partition].durable.commits)))
	}
	s.answer(c, "is answered")
}

func (s *simulation) take(c *simCall) { s.store.calls = remove(s.store.calls, c) }

func (s *simulation) answer(c *simCall, what string) {
	s.take(c)
	s.note("%v %s: %v%s", c, what, c.err, simBrought(c))
	close(c.answer)
}

func simBrought(c *simCall) string {
	switch c.kind {
	case simRead:
		return fmt.Sprintf(", %d commits", len(c.commits))
	case simHead:
		return fmt.Sprintf(", %d", c.head)
	case simHeld:
		return fmt.Sprintf(", %d of them", len(c.held))
	}
	return ""
}

// arrive lets an insert reach the store after its caller has gone.
func (s *simulation) arrive(i int) {
	c := s.store.wire[i]
	s.store.wire = slices.Delete(s.store.wire, i, i+1)
	s.note("%v arrives late: %v", c, s.store.parts[c.partition].apply(c))
}

func (s *simulation) replicate(part, n int) {
	p := s.store.parts[part]
	if n == len(p.durable.commits) {
		return
	}
	if err := p.replicate(n); err != nil {
		s.breaks("partition %d: %w", part, err)
	}
	s.note("a majority has %d up to %d", part, p.durable.head())
}

// crash ends a process where it stands. What it has sent may still arrive. A new
// one takes its place.
func (s *simulation) crash(i int) {
	p := s.processes[i]
	s.processes = slices.Delete(s.processes, i, i+1)
	s.note("w%d crashes", p.number)
	s.clients.forget(p)
	s.kill(p)
	s.start()
}

func (s *simulation) kill(p *simProcess) {
	p.dead = true
	var parked []*simCall
	for _, c := range s.store.calls {
		if c.by == p {
			parked = append(parked, c)
		}
	}
	for _, c := range parked {
		s.store.abandon(c)
	}
	for _, c := range parked {
		c.err = errCrashed
		close(c.answer)
	}
}

// drain ends the faults and waits until every append is answered.
func (s *simulation) drain() {
	s.note("no more faults")
	s.faults, s.calmSince = 0, time.Now()
	for range simMaxDrainSteps {
		if s.broken != nil || len(s.clients.open) == 0 {
			return
		}
		s.step++
		for i := range s.store.parts {
			s.replicate(i, len(s.store.parts[i].primary))
		}
		switch {
		case len(s.store.wire) > 0 && s.percent(10):
			s.arrive(s.random.IntN(len(s.store.wire)))
		case len(s.store.calls) > 0:
			c := s.store.calls[s.random.IntN(len(s.store.calls))]
			if !c.performed {
				s.perform(c)
			}
			s.deliver(c)
		default:
			s.sleep(0, 10*time.Millisecond)
		}
		s.wait()
		s.clients.collect()
	}
	s.breaks("%d appends have no answer after %d steps without a fault", len(s.clients.open), simMaxDrainSteps)
}

// end stops every process, so that the bubble is left empty.
func (s *simulation) end() {
	for _, p := range s.all {
		s.kill(p)
	}
	s.store.mu.Unlock()
	for _, p := range s.all {
		p.log.Close()
	}
	s.store.mu.Lock()
}
