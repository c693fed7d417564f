package web_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/web"
)

func TestACallersTimeIsHeededIfItMakesSense(t *testing.T) {
	for said, want := range map[string]time.Duration{
		"250": 250 * time.Millisecond, "120000": web.MaxTimeout,
		"": 0, "0": 0, "-1": 0, "120001": 0, "1s": 0, "1.5": 0, "99999999999999999999": 0, " 250": 0,
	} {
		e := web.New(web.Options{})
		var left time.Duration
		e.GET("/", func(c echo.Context) error {
			if until, ok := c.Request().Context().Deadline(); ok {
				left = time.Until(until)
			}
			return nil
		})
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if said != "" {
			r.Header[web.TimeoutHeader] = []string{said}
		}
		e.ServeHTTP(httptest.NewRecorder(), r)
		if left > want || want > 0 && left <= 0 {
			t.Errorf("%q: %v is left of %v", said, left, want)
		}
	}
}

// What is asked for beside a longer bound ends at the earlier of the two, and is a
// 503 that says to come back.
func TestARequestWhoseTimeIsOverIsAProblem(t *testing.T) {
	e := web.New(web.Options{})
	e.GET("/", func(c echo.Context) error {
		ctx, cancel := context.WithTimeout(c.Request().Context(), time.Hour)
		defer cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set(web.TimeoutHeader, "1")
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
	}
}
