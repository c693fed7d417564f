package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/backend"
)

// listener is a member's app: it follows events and, whenever its connection ends,
// connects again and goes on from the last id.
type listener struct {
	*client
	mu    sync.Mutex
	last  string
	heard []string // kind and user
	ended int      // connections that have
}

func (c *client) listen(ctx context.Context) *listener {
	l := &listener{client: c}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	running.Go(func() {
		for ctx.Err() == nil {
			l.once(ctx)
		}
	})
	c.t.Cleanup(func() { cancel(); running.Wait() })
	eventually(c.t, "events are followed", func() (any, bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.last, l.last != ""
	})
	return l
}

// once connects once and listens until the end. Who is refused tries again.
func (l *listener) once(ctx context.Context) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url+"/v1/me/events", nil)
	if err != nil {
		l.t.Error(err)
		return
	}
	l.mu.Lock()
	r.Header.Set("Authorization", "Bearer "+l.token)
	if l.last != "" {
		r.Header.Set("Last-Event-ID", l.last)
	}
	l.mu.Unlock()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return
	}
	kind := ""
	for s := bufio.NewScanner(res.Body); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ": ")
		l.mu.Lock()
		switch name {
		case "id":
			l.last = value
		case "event":
			kind = value
		case "data":
			var n struct{ User struct{ ID uuid.UUID } }
			if err := json.Unmarshal([]byte(value), &n); err != nil {
				l.t.Errorf("%v: %s", err, value)
			}
			if one := kind + " " + n.User.ID.String(); !slices.Contains(l.heard, one) { // something may come twice
				l.heard = append(l.heard, one)
			}
		}
		l.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended++
}

func (l *listener) hears(what ...string) {
	l.t.Helper()
	eventually(l.t, "the events", func() (any, bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return slices.Clone(l.heard), slices.Equal(l.heard, what)
	})
}

func TestAMemberHearsOfVisitsLikesAndMatchesWhileTheyHappen(t *testing.T) {
	bothWays(t, func(t *testing.T, where backend.Where) {
		h := open(t, where)
		anna, bert, carl := h.register("anna"), h.register("bert"), h.register("carl")
		ctx, cancel := context.WithCancel(t.Context())
		a := anna.listen(ctx)
		bert.act("visit", anna.id).is(http.StatusCreated)
		a.hears("visit " + bert.id.String())
		bert.act("like", anna.id).is(http.StatusCreated)
		a.hears("visit "+bert.id.String(), "like "+bert.id.String())
		anna.act("like", bert.id).is(http.StatusCreated)
		a.hears("visit "+bert.id.String(), "like "+bert.id.String(), "match "+bert.id.String())

		// What happens while she is away, and over a restart, she hears later.
		cancel()
		eventually(t, "anna is away", func() (any, bool) {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.ended, a.ended > 0
		})
		carl.act("visit", anna.id).is(http.StatusCreated)
		carl.act("like", anna.id).is(http.StatusCreated)
		last := a.last
		h.stop()
		h = open(t, where)
		again := h.as("anna")
		later := &listener{client: again, last: last}
		ctx, cancel = context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			for ctx.Err() == nil {
				later.once(ctx)
			}
		})
		defer running.Wait()
		defer cancel()
		later.hears("visit "+carl.id.String(), "like "+carl.id.String())
	})
}
