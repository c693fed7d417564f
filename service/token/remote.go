package token

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/meet5/backend/service/problem"
)

const (
	// FreshFor is how long a [RemoteKeySet] uses the keys that it has fetched without
	// looking again.
	FreshFor = 5 * time.Minute
	// staleFor is how long they are used while the server that has them does not
	// answer: tokens stay good through an outage of it.
	staleFor = time.Hour
	// refreshEvery spaces the fetches that unknown key IDs cause. Anyone can make
	// those up.
	refreshEvery = 10 * time.Second
	// retryEvery spaces the fetches after one that failed.
	retryEvery = time.Second
	// fetchTimeout bounds one fetch.
	fetchTimeout = 5 * time.Second
	// maxJWKS bounds, in bytes, the key set that is read.
	maxJWKS = 64 << 10
)

// RemoteKeySet is a KeySet that another server publishes. It fetches when asked
// for a key, one fetch at a time. It is safe for concurrent use.
type RemoteKeySet struct {
	urls   []string
	client *http.Client
	now    func() time.Time

	mu      sync.Mutex
	keys    StaticKeySet
	fetched time.Time     // when keys were read; zero: never
	tried   time.Time     // when a fetch last began
	failure error         // of the last fetch
	pending chan struct{} // closed when the fetch under way ends; nil: none
}

// NewRemoteKeySet makes a KeySet of what the servers at urls, at least one, all
// serve: the first that answers is believed. It does no I/O before the first key
// is asked for.
func NewRemoteKeySet(urls []string, client *http.Client, now func() time.Time) *RemoteKeySet {
	return &RemoteKeySet{urls: urls, client: client, now: now}
}

// Key implements KeySet. A fetch outlives the caller that caused it, since others
// wait for it too; it ends after five seconds at most.
func (r *RemoteKeySet) Key(ctx context.Context, kid string) (ed25519.PublicKey, error) {
	for waited := false; ; waited = true {
		key, pending, err := r.lookUp(kid, waited)
		if pending == nil {
			return key, err
		}
		select {
		case <-pending:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the key set: %w", context.Cause(ctx))
		}
	}
}

// lookUp answers, or returns the fetch to wait for. After one wait it answers
// with what there is.
func (r *RemoteKeySet) lookUp(kid string, waited bool) (ed25519.PublicKey, <-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	key, known := r.keys[kid]
	age := now.Sub(r.fetched)
	if known && age < FreshFor {
		return key, nil, nil
	}
	if !waited {
		if r.pending == nil && r.mayFetch(now) {
			r.fetch(now)
		}
		// While the server is known to be in trouble, what it said before is good
		// enough not to wait for it.
		if r.pending != nil && !(known && age < staleFor && r.failure != nil) {
			return nil, r.pending, nil
		}
	}
	switch {
	case known && age < staleFor:
		return key, nil, nil
	case r.failure != nil:
		return nil, nil, fmt.Errorf("look up key: %w: %w",
			problem.Unavailable("the keys that tokens are signed with cannot be read right now", retryEvery), r.failure)
	}
	return nil, nil, ErrUnknownKey
}

func (r *RemoteKeySet) mayFetch(now time.Time) bool {
	since := now.Sub(r.tried)
	switch {
	case r.tried.IsZero():
		return true
	case r.failure != nil:
		return since >= retryEvery
	}
	return since >= refreshEvery
}

// fetch begins a fetch. The caller holds mu.
func (r *RemoteKeySet) fetch(now time.Time) {
	done := make(chan struct{})
	r.tried, r.pending = now, done
	go func() {
		keys, err := r.read()
		r.mu.Lock()
		if r.failure = err; err == nil {
			r.keys, r.fetched = keys, r.now()
		}
		r.pending = nil
		r.mu.Unlock()
		close(done)
	}()
}

// read asks the servers in turn. Each gets its share of the time.
func (r *RemoteKeySet) read() (StaticKeySet, error) {
	var faults []error
	for _, url := range r.urls {
		ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout/time.Duration(len(r.urls)))
		keys, err := r.readFrom(ctx, url)
		cancel()
		if err == nil {
			return keys, nil
		}
		faults = append(faults, err)
	}
	return nil, errors.Join(faults...)
}

func (r *RemoteKeySet) readFrom(ctx context.Context, url string) (StaticKeySet, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch key set: %w", err)
	}
	res, err := r.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch key set: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch key set: %s answered %s", url, res.Status)
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxJWKS+1))
	if err != nil {
		return nil, fmt.Errorf("fetch key set: %w", err)
	}
	if len(data) > maxJWKS {
		return nil, errors.New("fetch key set: larger than 64 KiB")
	}
	return ParseJWKS(data)
}
