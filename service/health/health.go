// Package health says whether a process lives and whether it can do its work.
//
// Its promises:
//   - /livez asks nothing of anyone: a process that can answer lives, and must not
//     be restarted because something else is down;
//   - /readyz is 200 only while every check passes, and answers within
//     [CheckTimeout] whatever the checks do;
//   - checks run at most once a second, however often /readyz is asked;
//   - what a failed check says stays in the log; the answer holds only what the
//     check offers as detail.
package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// CheckTimeout is how long a check may take. One that takes longer has failed.
const CheckTimeout = 2 * time.Second

// remembered is how long an answer is given again: anyone may ask.
const remembered = time.Second

// Check tells whether something works. detail, which may be nil, is shown to
// anyone as JSON, also beside an error.
type Check func(ctx context.Context) (detail any, err error)

// Registry holds the checks of a process. It is safe for concurrent use.
type Registry struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex // of what follows
	checks []*namedCheck

	round  sync.Mutex // held while checks run, by one caller at a time
	last   Report
	lastAt time.Time
}

// namedCheck has at most one call under way: a check that hangs must not pile up.
type namedCheck struct {
	name  string
	check Check
	slot  chan struct{}
	sound bool // how it was last time; guarded by Registry.round
}

// Report is the answer of /readyz.
type Report struct {
	Status string            `json:"status"` // ready or unready
	Checks map[string]Result `json:"checks"`
}

// Result is the outcome of one check.
type Result struct {
	Status string `json:"status"` // ok or failed
	Detail any    `json:"detail,omitempty"`
}

// Ready says whether every check passed.
func (r Report) Ready() bool { return r.Status == "ready" }

// New makes a Registry without checks, which is ready. It logs each check's change
// from sound to failed and back to log; nil drops that.
func New(log *slog.Logger) *Registry {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Registry{log: log, now: time.Now}
}

// Add adds a check. Names are shown, and a later check of the same name replaces
// the earlier one.
func (r *Registry) Add(name string, check Check) {
	r.mu.Lock()
	defer r.mu.Unlock()
	added := &namedCheck{name: name, check: check, slot: make(chan struct{}, 1), sound: true}
	for i, c := range r.checks {
		if c.name == name {
			// A round may be walking the old slice.
			r.checks = append([]*namedCheck(nil), r.checks...)
			r.checks[i] = added
			return
		}
	}
	r.checks = append(r.checks, added)
}

// Report runs the checks, at once, or repeats the last answer if that is less than
// a second old.
func (r *Registry) Report(ctx context.Context) Report {
	r.round.Lock()
	defer r.round.Unlock()
	if !r.lastAt.IsZero() && r.now().Sub(r.lastAt) < remembered {
		return r.last
	}
	r.mu.Lock()
	checks := r.checks
	r.mu.Unlock()

	// Not the caller's end: the answer is for the others, too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), CheckTimeout)
	defer cancel()
	results := make([]Result, len(checks))
	errs := make([]error, len(checks))
	var wait sync.WaitGroup
	for i, c := range checks {
		wait.Go(func() { results[i], errs[i] = c.run(ctx) })
	}
	wait.Wait()

	report := Report{Status: "ready", Checks: make(map[string]Result, len(checks))}
	for i, c := range checks {
		report.Checks[c.name] = results[i]
		if errs[i] != nil {
			report.Status = "unready"
		}
		r.logChange(c, errs[i])
	}
	r.last, r.lastAt = report, r.now()
	return report
}

func (r *Registry) logChange(c *namedCheck, err error) {
	if sound := err == nil; sound != c.sound {
		c.sound = sound
		if sound {
			r.log.Info("health check passes again", "check", c.name)
		} else {
			r.log.Warn("health check fails", "check", c.name, "error", err)
		}
	}
}

type outcome struct {
	detail any
	err    error
}

// run calls the check in a goroutine of its own, which may outlive ctx if the
// check does not heed it; until it is back, the check counts as failed.
func (c *namedCheck) run(ctx context.Context) (Result, error) {
	select {
	case c.slot <- struct{}{}:
	default:
		return Result{Status: "failed"}, errors.New("the last call has not come back")
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			if v := recover(); v != nil {
				o = outcome{err: fmt.Errorf("panic: %v", v)}
			}
			// First the slot: whoever has the outcome may call again.
			<-c.slot
			done <- o
		}()
		o.detail, o.err = c.check(ctx)
	}()
	var o outcome
	select {
	case o = <-done:
	case <-ctx.Done():
		o.err = fmt.Errorf("no answer within %v", CheckTimeout)
	}
	if o.err != nil {
		return Result{Status: "failed", Detail: o.detail}, o.err
	}
	return Result{Status: "ok", Detail: o.detail}, nil
}

// Live serves /livez.
func (r *Registry) Live() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "alive"})
	})
}

// Ready serves /readyz.
func (r *Registry) Ready() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		report := r.Report(req.Context())
		status := http.StatusOK
		if !report.Ready() {
			status = http.StatusServiceUnavailable
		}
		answer(w, status, report)
	})
}

// Mount puts /livez and /readyz on e.
func (r *Registry) Mount(e *echo.Echo) {
	e.GET("/livez", echo.WrapHandler(r.Live()))
	e.GET("/readyz", echo.WrapHandler(r.Ready()))
}

func answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		// A check's detail cannot be marshalled: it is not known to be sound.
		status, body = http.StatusServiceUnavailable, []byte(`{"status":"unready"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
