package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
)

// errorsAllowed is how many of 100 requests may fail at one client: the share that the
// gateway's retries may add. In what a client did a few are always allowed.
const (
	errorsAllowed = 10
	errorsAtLeast = 3
)

// TestOneOfThreeInstancesOfEachServiceDiesUnderLoad kills one instance of each service, one
// service after the other, while members visit and look, and lets no client see more than
// it would of a service that now and then asks to be asked again. What was answered with
// 201 is there.
func TestOneOfThreeInstancesOfEachServiceDiesUnderLoad(t *testing.T) {
	h := runApart(t, 3)
	members := make([]*visitor, 6)
	for i := range members {
		members[i] = &visitor{client: h.register("member-" + string(rune('a'+i)))}
	}
	target := h.register("target")
	var done atomic.Int64
	stop := make(chan struct{})
	var all sync.WaitGroup
	for _, m := range members {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				m.ask(n, target.id)
				done.Add(1)
			}
		})
	}
	// under is when so many more requests have been answered.
	under := func(load int64) {
		before := done.Load()
		eventually(t, "the load goes on", func() (any, bool) { return done.Load(), done.Load() >= before+load })
	}
	under(200)
	for _, name := range h.services[:4] {
		if err := h.instances[name][0].Process.Kill(); err != nil {
			t.Fatal(err)
		}
		under(300)
	}
	close(stop)
	all.Wait()
	acknowledged := 0
	for _, m := range members {
		acknowledged += m.visits
		if allowed := max(errorsAtLeast, m.requests*errorsAllowed/100); m.failed > allowed {
			t.Errorf("%d of %d requests of a client failed, at most %d are allowed: %s", m.failed, m.requests, allowed, m.last)
		}
		t.Logf("%d requests, %d failed (%s), %d visits", m.requests, m.failed, m.last, m.visits)
	}
	eventually(t, "the target's numbers", func() (any, bool) {
		var stats struct {
			Visits int `json:"visits_received"`
		}
		target.get("/v1/me/stats").is(http.StatusOK).into(&stats)
		return stats, stats.Visits >= acknowledged
	})
}

// visitor is a client that notes how it fares.
type visitor struct {
	*client
	requests, failed, visits int
	last                     string // failure
}

// ask makes the n-th request: a visit, with an id so that it may be sent again, or a look
// at what every service has.
func (m *visitor) ask(n int, target uuid.UUID) {
	m.requests++
	method, path, body, want := http.MethodGet, []string{"/v1/me", "/v1/me/stats", "/v1/me/visits", "/v1/me/home"}[n/2%4], io.Reader(nil), http.StatusOK
	if n%2 == 0 {
		b, _ := json.Marshal(object{"id": uuid.New(), "type": "visit", "target": target}) // strings only
		method, path, body, want = http.MethodPost, "/v1/activities", bytes.NewReader(b), http.StatusCreated
	}
	r, err := http.NewRequest(method, m.url+path, body) //nolint:noctx // the gateway bounds it
	if err != nil {
		m.fail(err.Error())
		return
	}
	r.Header.Set("Authorization", "Bearer "+m.token)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		m.fail(err.Error())
		return
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		m.fail(err.Error())
		return
	}
	// Sent again by the gateway, it may have been carried out before: 200.
	if res.StatusCode != want && (method != http.MethodPost || res.StatusCode != http.StatusOK) {
		m.fail(method + " " + path + ": " + res.Status + " " + strings.TrimSpace(string(answer)))
		return
	}
	if method == http.MethodPost {
		m.visits++
	}
}

func (m *visitor) fail(why string) {
	m.failed++
	m.last = why
	time.Sleep(10 * time.Millisecond) // as a client would, if not for a second
}
