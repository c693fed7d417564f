package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

// timeoutOf bounds requests to services elsewhere, by class: from when their body
// is here until their answer is, with all retries. It is a little more than the
// services take at most, so that it is they who say what was wrong.
var timeoutOf = [classes]time.Duration{
	auth:       8 * time.Second,
	batch:      30 * time.Second,
	moderation: 15 * time.Second,
	read:       8 * time.Second,
	write:      10 * time.Second,
}

const (
	// unclassedTimeout is that of requests of no class, such as for the keys of
	// tokens.
	unclassedTimeout = 5 * time.Second
	// heldBody is the largest body, in bytes, that is taken in whole before a
	// service is asked: a slow client then costs the gateway some memory, and the
	// service nothing. Longer ones are passed on as they come.
	heldBody = 64 << 10
	// usualBody is what most bodies fit into, in bytes.
	usualBody = 4 << 10
)

// repeatable says whether a route's requests may be sent again after one of them
// may have been carried out.
type repeatable uint8

const (
	byMethod repeatable = iota // if they only read
	byID                       // if their body brings the id of what it makes
)

// plan is how one request is passed on to services elsewhere.
type plan struct {
	kind    kind
	timeout time.Duration
	// repeat says that the request does no harm if it is carried out twice.
	repeat bool
}

type planKey struct{}

func withPlan(ctx context.Context, p plan) context.Context {
	return context.WithValue(ctx, planKey{}, &p)
}

// planOf is the plan of a request; one without a plan has that of its method.
func planOf(r *http.Request) plan {
	if p, ok := r.Context().Value(planKey{}).(*plan); ok {
		return *p
	}
	return plan{timeout: unclassedTimeout, repeat: onlyReads(r.Method)}
}

func onlyReads(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// plan says how a request of this route is passed on, and takes its body in if it
// is short.
func (rt *route) plan(r *http.Request) (plan, error) {
	p := plan{timeout: timeoutOf[rt.class], repeat: onlyReads(r.Method)}
	if p.timeout == 0 {
		p.timeout = unclassedTimeout
	}
	switch {
	case rt.stream:
		p.kind = streamed
	case rt.class == batch:
		p.kind = bulky
	}
	if r.Body == nil || r.Body == http.NoBody {
		return p, nil
	}
	held, whole, err := hold(r)
	if err != nil {
		return p, err
	}
	if !whole {
		p.timeout += web.BodyTimeout
	} else if rt.repeat == byID && !rt.inPlace {
		p.repeat = bringsID(held)
	}
	return p, nil
}

// hold takes a body in, or says that it is too long for that.
func hold(r *http.Request) (held []byte, whole bool, err error) {
	if r.ContentLength > heldBody {
		return nil, false, nil
	}
	var in bytes.Buffer
	// What is only announced takes no memory.
	in.Grow(int(min(max(0, r.ContentLength), usualBody)) + bytes.MinRead)
	if _, err := in.ReadFrom(io.LimitReader(r.Body, heldBody+1)); err != nil {
		return nil, false, fmt.Errorf("read the body: %w", unreadable(err))
	}
	held = in.Bytes()
	if len(held) > heldBody {
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(held), r.Body), r.Body}
		return nil, false, nil
	}
	r.ContentLength = int64(len(held))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(held)), nil }
	r.Body, err = r.GetBody()
	return held, true, err
}

// unreadable says whose fault it is that a body cannot be read: the client's, or
// that of the way from it.
func unreadable(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.Join(&problem.Problem{Type: "/problems/request-timeout", Title: "Request timeout",
			Status: http.StatusRequestTimeout, Detail: "the body took longer than " + web.BodyTimeout.String() + " to arrive"}, err)
	}
	return errors.Join(problem.BadRequest("the body breaks off before its end, or its chunks are malformed"), err)
}

// bringsID says whether a body is an object with an id. Of one that the service
// will refuse, either answer does no harm.
func bringsID(body []byte) bool {
	if !bytes.Contains(body, []byte(`"id"`)) {
		return false
	}
	var b struct {
		ID string `json:"id"`
	}
	return json.Unmarshal(body, &b) == nil && b.ID != ""
}
