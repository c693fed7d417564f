package health

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ask(r *Registry, path string) (int, string) {
	e := echo.New()
	r.Mount(e)
	w := httptest.NewRecorder()
	e.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

func sound(context.Context) (any, error) { return map[string]int{"lag": 3}, nil }

func TestReady(t *testing.T) {
	secret := errors.New("dial mongodb://root:secret@db: refused")
	for name, test := range map[string]struct {
		checks map[string]Check
		status int
		body   string
	}{
		"without checks it is ready": {nil, 200, `{"status":"ready","checks":{}}`},
		"it is ready if all checks pass, with their detail": {
			map[string]Check{"log": sound, "bus": func(context.Context) (any, error) { return nil, nil }},
			200, `{"status":"ready","checks":{"bus":{"status":"ok"},"log":{"status":"ok","detail":{"lag":3}}}}`,
		},
		"it is not if one fails, and does not say why": {
			map[string]Check{"log": sound, "bus": func(context.Context) (any, error) { return "no broker", secret }},
			503, `{"status":"unready","checks":{"bus":{"status":"failed","detail":"no broker"},"log":{"status":"ok","detail":{"lag":3}}}}`,
		},
		"it is not if one panics": {
			map[string]Check{"bus": func(context.Context) (any, error) { panic("secret") }},
			503, `{"status":"unready","checks":{"bus":{"status":"failed"}}}`,
		},
		"it is not if a detail cannot be shown": {
			map[string]Check{"bus": func(context.Context) (any, error) { return func() {}, nil }},
			503, `{"status":"unready"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := New(nil)
			for name, check := range test.checks {
				r.Add(name, check)
			}
			status, body := ask(r, "/readyz")
			if diff := cmp.Diff(test.body, body); status != test.status || diff != "" {
				t.Error(status, diff)
			}
			if status, _ := ask(r, "/livez"); status != 200 {
				t.Errorf("/livez is %d", status)
			}
		})
	}
}

func TestChecksRunAtMostOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		r := New(nil)
		r.Add("log", func(context.Context) (any, error) { calls.Add(1); return nil, nil })
		for _, want := range []int32{1, 2, 3} {
			var wait sync.WaitGroup
			for range 20 {
				wait.Go(func() { ask(r, "/readyz") })
			}
			wait.Wait()
			if n := calls.Load(); n != want {
				t.Errorf("%d calls, want %d", n, want)
			}
			time.Sleep(time.Second) // synctest's clock
		}
	})
}

func TestACheckThatHangsFailsAndDoesNotPileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		release := make(chan struct{})
		r := New(nil)
		r.Add("log", func(context.Context) (any, error) {
			calls.Add(1)
			<-release
			return nil, nil
		})
		start := time.Now()
		for range 3 {
			if status, _ := ask(r, "/readyz"); status != 503 {
				t.Errorf("got %d", status)
			}
			time.Sleep(time.Second)
		}
		// The first takes the whole time that a check has, the others none.
		if took := time.Since(start) - 3*time.Second; took != CheckTimeout || calls.Load() != 1 {
			t.Errorf("it took %v and %d calls", took, calls.Load())
		}
		close(release)
		synctest.Wait()
		if status, _ := ask(r, "/readyz"); status != 200 || calls.Load() != 2 {
			t.Errorf("once it is back: %d", status)
		}
	})
}

func TestOnlyChangesAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var failure error
		r := New(slog.New(slog.NewJSONHandler(&log, nil)))
		r.Add("bus", func(context.Context) (any, error) { return nil, failure })
		for _, failure = range []error{nil, errors.New("gone"), errors.New("gone"), nil, nil} {
			ask(r, "/readyz")
			time.Sleep(time.Second)
		}
		var got []string
		for line := range strings.Lines(log.String()) {
			var record map[string]any
			if err := json.Unmarshal([]byte(line), &record); err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(record["level"], " ", record["msg"], " ", record["check"], " ", record["error"]))
		}
		want := []string{"WARN health check fails bus gone", "INFO health check passes again bus <nil>"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestALaterCheckOfTheSameNameReplacesTheEarlier(t *testing.T) {
	r := New(nil)
	r.Add("bus", func(context.Context) (any, error) { return nil, errors.New("old") })
	r.Add("bus", sound)
	if report := r.Report(t.Context()); !report.Ready() || len(report.Checks) != 1 {
		t.Errorf("got %+v", report)
	}
}
