package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

const (
	// maxPart bounds, in bytes, an answer that something is composed of.
	maxPart = 1 << 20
	// partTimeout bounds the wait for it.
	partTimeout = 2 * time.Second
)

// part is a service's answer to a question of the gateway's own.
type part struct {
	status int
	body   []byte
}

// call asks a service something for the caller of r, in their name, that changes
// nothing: it may be asked twice. Any answer of at most maxPart is a part, also one
// that is a refusal.
func call(ctx context.Context, to http.Handler, r *http.Request, method, path string, body []byte) (p part, err error) {
	ctx, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	ctx = withPlan(ctx, plan{timeout: partTimeout, repeat: true})
	req, err := http.NewRequestWithContext(ctx, method, "http://gateway"+path, bytes.NewReader(body))
	if err != nil {
		return part{}, fmt.Errorf("ask for %s: %w", path, err)
	}
	for _, name := range []string{"Authorization", requestIDHeader, "X-Forwarded-For", "Traceparent", "Tracestate"} {
		if v := r.Header[name]; v != nil {
			req.Header[name] = v
		}
	}
	req.Header.Set("Content-Type", "application/json")
	req.RemoteAddr, req.RequestURI = r.RemoteAddr, path
	answer := memory{header: make(http.Header)}
	defer func() {
		// What would cut a connection, or end the process, is an answer that did
		// not come.
		if v := recover(); v != nil {
			p, err = part{}, fmt.Errorf("ask for %s: panic: %v", path, v)
		}
	}()
	to.ServeHTTP(&answer, req)
	if answer.tooLarge {
		return part{}, fmt.Errorf("ask for %s: the answer is larger than %d bytes", path, maxPart)
	}
	if answer.status == 0 {
		answer.status = http.StatusOK
	}
	return part{status: answer.status, body: answer.body.Bytes()}, nil
}

// memory is a ResponseWriter that keeps an answer of up to maxPart.
type memory struct {
	header   http.Header
	status   int
	body     bytes.Buffer
	tooLarge bool
}

var errTooLarge = errors.New("the answer is too large to be composed")

func (m *memory) Header() http.Header { return m.header }

func (m *memory) WriteHeader(status int) {
	if m.status == 0 && status >= http.StatusOK {
		m.status = status
	}
}

func (m *memory) Write(p []byte) (int, error) {
	m.WriteHeader(http.StatusOK)
	if m.body.Len()+len(p) > maxPart {
		m.tooLarge = true
		return 0, errTooLarge
	}
	return m.body.Write(p)
}

// Flush implements http.Flusher: there is nobody to flush to yet.
func (m *memory) Flush() {}
