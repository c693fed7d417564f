package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/cmd/history"
	"github.com/meet5/backend/events"
)

const (
	// members is how many accounts act, each from a device of its own.
	members = 24
	// batchers is how many of them also send batches, from a second device.
	batchers = 4
	// maxBatch is the largest number of lines of those.
	maxBatch = 40
	// maxUnsettled is how many requests of one device may wait to be sent again;
	// then it sends nothing new.
	maxUnsettled = 64
	// settlePause is the pause between two attempts to settle what is open.
	settlePause = 100 * time.Millisecond
)

// load is clients at work, until their context ends.
type load struct {
	house   *house
	pace    time.Duration
	number  int
	random  func(device string) *rand.Rand
	devices sync.WaitGroup
	stop    context.CancelFunc

	mu       sync.Mutex
	unsolved []error
}

// startLoad sets the clients to work. number is the run's in its house: no two runs
// may make the same IDs.
func (h *house) startLoad(ctx context.Context, seed uint64, number int, pace time.Duration) *load {
	l := &load{house: h, pace: pace, number: number}
	l.random = func(device string) *rand.Rand {
		return rand.New(rand.NewPCG(seed, fingerprint(device))) //nolint:gosec // repeatable on purpose
	}
	working, stop := context.WithCancel(ctx)
	l.stop = stop
	for i, m := range h.members {
		l.device(ctx, working, m, fmt.Sprintf("%s in run %d", m.login, number), 1)
		if i < batchers {
			l.device(ctx, working, m, fmt.Sprintf("%s's other device in run %d", m.login, number), maxBatch)
		}
	}
	l.devices.Go(func() { l.raceForHandles(ctx, working) })
	l.devices.Go(func() { l.raceForVersions(working) })
	return l
}

// settle ends the load and returns when everything that was asked has a clear
// answer, or with what has not, in time.
func (l *load) settle() error {
	l.stop()
	l.devices.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.unsolved) > 0 {
		return fmt.Errorf("%d devices could not settle what they had sent, such as %w", len(l.unsolved), l.unsolved[0])
	}
	return nil
}

func (l *load) gaveUp(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsolved = append(l.unsolved, err)
}

// device sends activities of a member, one request after the other.
type device struct {
	*load
	member *account
	name   string
	lines  int // at most, in one request
	random *rand.Rand
	open   []parcel // to be sent again
}

// parcel is the activities of one request.
type parcel struct {
	acts []act
	body []byte
}

type act struct {
	id, target uuid.UUID
	kind       activity.Kind
}

func (l *load) device(ctx, working context.Context, m *account, name string, lines int) {
	d := &device{load: l, member: m, name: name, lines: lines, random: l.random(name)}
	l.devices.Go(func() {
		d.work(working)
		d.settle(ctx)
	})
}

// work sends until ctx ends. What is open is sent again in between.
func (d *device) work(ctx context.Context) {
	for ctx.Err() == nil {
		if n := len(d.open); n > 0 && (n >= maxUnsettled || d.random.IntN(4) == 0) {
			d.sendOldest(ctx)
		} else if p := d.next(); !d.send(ctx, p) {
			d.open = append(d.open, p)
		}
		pause(ctx, time.Duration(d.random.ExpFloat64()*float64(d.pace)))
	}
}

// settle sends what is open until it has an answer.
func (d *device) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, d.house.patience())
	defer cancel()
	for len(d.open) > 0 {
		if !d.sendOldest(ctx) {
			pause(ctx, settlePause)
		}
		if ctx.Err() != nil {
			if len(d.open) > 0 {
				d.gaveUp(fmt.Errorf("%s: activity %s", d.name, d.open[0].acts[0].id))
			}
			return
		}
	}
}

func (d *device) sendOldest(ctx context.Context) bool {
	p := d.open[0]
	d.open = d.open[1:]
	if d.send(ctx, p) {
		return true
	}
	d.open = append(d.open, p)
	return false
}

// next makes up a request.
func (d *device) next() parcel {
	n := 1
	if d.lines > 1 {
		n = 2 + d.random.IntN(d.lines-1)
	}
	p := parcel{acts: make([]act, n)}
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	for i := range p.acts {
		kind := activity.Visit
		switch dice := d.random.IntN(10); {
		case dice < 3:
			kind = activity.Like
		case dice < 5:
			kind = activity.Unlike
		}
		p.acts[i] = act{id: randomID(d.random), kind: kind, target: d.house.anybodyBut(d.member, d.random).id}
		_ = e.Encode(map[string]any{"type": kind, "target": p.acts[i].target, "id": p.acts[i].id}) // into memory, of strings alone
	}
	p.body = body.Bytes()
	return p
}

// send posts a parcel, records what becomes of it, and is true once all of it has
// a clear answer.
func (d *device) send(ctx context.Context, p parcel) bool {
	// The requests of one device are in flight alone, and outlive the load's end.
	ctx = context.WithoutCancel(ctx)
	// Lines of a batch stand or fall alone: each is a call.
	calls := make([]*history.Call, len(p.acts))
	for i, a := range p.acts {
		calls[i] = d.house.recorder.Invoke(d.name, events.ActivityLog, history.Intent{ID: a.id, Type: a.kind.EventType(), Stream: d.member.id})
	}
	r := request{method: http.MethodPost, path: "/v1/activities", contentType: jsonType, body: p.body}
	if d.lines > 1 {
		r.path, r.contentType = "/v1/activities/batch", "application/x-ndjson"
	}
	got, err := d.member.ask(ctx, r)
	lines, why := d.read(r, p, got, err)
	settled := true
	var last events.Position
	for i, call := range calls {
		if lines == nil {
			call.Unknown(why)
			d.house.doors.tally.unknown.Add(1)
			settled = false
			continue
		}
		switch l := lines[i]; l.Status {
		case http.StatusCreated, http.StatusOK:
			at := events.Position{Partition: l.Partition, Sequence: l.Sequence}
			if l.Status == http.StatusCreated {
				if at.Sequence <= last.Sequence {
					d.wrong("the lines of a batch are not in their order", fmt.Sprintf("%s of %s at %v follows %v", p.acts[i].id, d.name, at, last))
				}
				last = at
			}
			call.Acknowledge(at)
			d.house.doors.tally.acknowledged.Add(1)
		default:
			if l.Status != http.StatusServiceUnavailable {
				d.wrong(fmt.Sprintf("a line of %s was answered with %d", r.path, l.Status), string(got.body[:min(len(got.body), 500)]))
			}
			call.Unknown("a line's 503")
			d.house.doors.tally.unknown.Add(1)
			settled = false
		}
	}
	return settled
}

func (d *device) wrong(what, evidence string) { d.house.doors.tally.wrong(what, evidence) }

// answered is a line of a batch's answer, or the answer to one activity.
type answered struct {
	Status    int
	ID        uuid.UUID
	Partition int
	Sequence  uint64
}

// read returns the answer's lines, or why there are none.
func (d *device) read(r request, p parcel, got answer, err error) (lines []answered, why string) {
	switch {
	case err != nil:
		return nil, "no answer"
	case got.status == http.StatusServiceUnavailable:
		return nil, "503"
	case got.status != http.StatusOK && (d.lines > 1 || got.status != http.StatusCreated):
		d.wrong(fmt.Sprintf("POST %s was answered with %d", r.path, got.status), got.String())
		return nil, fmt.Sprintf("status %d", got.status)
	}
	lines = make([]answered, len(p.acts))
	for i, decoder := 0, json.NewDecoder(bytes.NewReader(got.body)); i < len(lines); i++ {
		lines[i].Status = got.status
		if err := decoder.Decode(&lines[i]); err != nil || lines[i].ID != p.acts[i].id {
			d.wrong("the answer to POST "+r.path+" is not of what was sent", got.String())
			return nil, "an answer that cannot be read"
		}
	}
	return lines, ""
}

// randomID makes an ID that the seed decides.
func randomID(r *rand.Rand) (id uuid.UUID) {
	for i := range 2 {
		n := r.Uint64()
		for j := range 8 {
			id[8*i+j] = byte(n >> (8 * j)) //nolint:gosec // its lowest byte
		}
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // version 4
	return id
}

// fingerprint tells the random numbers of one device from another's: FNV-1a.
func fingerprint(s string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * prime
	}
	return h
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
