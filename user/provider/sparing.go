package provider

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// askEvery spaces requests for the same address: anybody can make up a token with
	// a key that is not known, for which the keys are asked for.
	askEvery = 10 * time.Second
	// askAgain spaces them after one that failed.
	askAgain = time.Second
	// maxAnswer bounds, in bytes, what is read of an answer.
	maxAnswer = 1 << 20
	// maxAddresses bounds the addresses whose answers are kept. There are two:
	// discovery, and the keys.
	maxAddresses = 8
)

var errTooMany = errors.New("asked for too many addresses")

// sparing is a transport that gives the last answer again instead of asking too
// often.
type sparing struct {
	next     http.RoundTripper
	now      func() time.Time
	failures atomic.Uint64

	mu      sync.Mutex
	answers map[string]*answer
}

type answer struct {
	at     time.Time
	err    error
	status int
	header http.Header
	body   []byte
}

func newSparing(next http.RoundTripper, now func() time.Time) *sparing {
	if next == nil {
		next = http.DefaultTransport
	}
	return &sparing{next: next, now: now, answers: make(map[string]*answer)}
}

// failed counts the requests that brought nothing good, or would have.
func (s *sparing) failed() uint64 { return s.failures.Load() }

// RoundTrip implements http.RoundTripper for requests without a body.
func (s *sparing) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	url, now := r.URL.String(), s.now()
	a := s.answers[url]
	if a == nil && len(s.answers) >= maxAddresses {
		return nil, fmt.Errorf("ask %s: %w", url, errTooMany)
	}
	if a == nil || now.Sub(a.at) >= a.patience() {
		a = s.ask(r)
		a.at = now
		s.answers[url] = a
	}
	if a.bad() {
		s.failures.Add(1)
	}
	if a.err != nil {
		return nil, a.err
	}
	return &http.Response{
		Status: http.StatusText(a.status), StatusCode: a.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header.Clone(), Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: r,
	}, nil
}

func (a *answer) bad() bool { return a.err != nil || a.status != http.StatusOK }

func (a *answer) patience() time.Duration {
	if a.bad() {
		return askAgain
	}
	return askEvery
}

func (s *sparing) ask(r *http.Request) *answer {
	res, err := s.next.RoundTrip(r)
	if err != nil {
		return &answer{err: err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("ask %s: the answer is larger than %d bytes", r.URL, maxAnswer)
	}
	return &answer{err: err, status: res.StatusCode, header: res.Header, body: body}
}
