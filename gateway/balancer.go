package gateway

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/service/token"
)

// passOver is for how long an instance that could not be connected to is asked
// only if no other is left.
const passOver = 5 * time.Second

// balancer is a RoundTripper that chooses the instance. What it sends to a second
// one, after the first could not be connected to, was sent to nobody before.
type balancer struct {
	instances []*instance
	transport http.RoundTripper
	byActor   bool
	now       func() time.Time
	turn      atomic.Uint64
}

type instance struct {
	url *url.URL
	// weight decides by rendezvous: a partition belongs to the instance with the
	// greatest one, so that the loss of an instance moves only its own partitions.
	// It is the same in every gateway.
	weight [events.ActivityPartitions]uint64
	failed atomic.Int64 // when it could last not be connected to, Unix ns; 0: never
}

func newBalancer(urls []*url.URL, transport http.RoundTripper, o RemoteOptions) *balancer {
	b := &balancer{transport: transport, byActor: o.ByActor, now: o.Clock}
	for _, u := range urls {
		i := &instance{url: u}
		for p := range i.weight {
			sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", p, u.Host))
			i.weight[p] = binary.BigEndian.Uint64(sum[:])
		}
		b.instances = append(b.instances, i)
	}
	return b
}

// RoundTrip implements http.RoundTripper.
func (b *balancer) RoundTrip(req *http.Request) (*http.Response, error) {
	weight := b.weights(req)
	tried := make([]bool, len(b.instances))
	err := errors.New("no instance is configured")
	for range b.instances {
		i := b.choose(tried, weight)
		tried[i] = true
		var res *http.Response
		if res, err = b.transport.RoundTrip(aim(req, b.instances[i].url)); err == nil {
			return res, nil
		}
		if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "dial" || req.Context().Err() != nil {
			return nil, err
		}
		b.instances[i].failed.Store(b.now().UnixNano())
	}
	return nil, err
}

// weights says how instances are preferred: by the caller's partition, or in
// turn.
func (b *balancer) weights(req *http.Request) func(i int) uint64 {
	if b.byActor && req.Method == http.MethodPost {
		if caller, ok := token.FromContext(req.Context()); ok {
			p := events.PartitionOf(caller.Subject, events.ActivityPartitions)
			return func(i int) uint64 { return b.instances[i].weight[p] }
		}
	}
	n := uint64(max(1, len(b.instances)))
	turn := b.turn.Add(1)
	return func(i int) uint64 { return (uint64(i) + turn) % n }
}

// choose returns the untried instance with the greatest weight, first of those
// that did not just fail. One is left.
func (b *balancer) choose(tried []bool, weight func(int) uint64) int {
	best, bestSound := -1, false
	since := b.now().Add(-passOver).UnixNano()
	for i, at := range b.instances {
		if tried[i] {
			continue
		}
		sound := at.failed.Load() <= since
		if best < 0 || sound && !bestSound || sound == bestSound && weight(i) > weight(best) {
			best, bestSound = i, sound
		}
	}
	return best
}

// aim copies a request for one instance. The transport closes a body even if it
// could not connect; that must not close the client's.
func aim(req *http.Request, to *url.URL) *http.Request {
	out := *req
	u := *req.URL
	u.Scheme, u.Host = to.Scheme, to.Host
	out.URL, out.Host = &u, ""
	if req.Body != nil && req.Body != http.NoBody {
		out.Body = io.NopCloser(req.Body)
	}
	return &out
}
