package problem_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/problem"
)

func TestOf(t *testing.T) {
	taken := problem.Conflict("taken", problem.Field("handle", "is taken"))
	for name, test := range map[string]struct {
		err    error
		status int
		kind   string
	}{
		"a problem stays what it is":                 {taken, 409, "/problems/conflict"},
		"a wrapped problem is found":                 {fmt.Errorf("register: %w", taken), 409, "/problems/conflict"},
		"a problem wrapped beside a cause is found":  {fmt.Errorf("%w: %w", taken, errors.New("secret")), 409, "/problems/conflict"},
		"the router's not found is a problem":        {echo.ErrNotFound, 404, "/problems/not-found"},
		"the router's wrong method is a problem":     {echo.ErrMethodNotAllowed, 405, "/problems/method-not-allowed"},
		"an odd status of the router keeps its code": {echo.NewHTTPError(418, "secret"), 418, "/problems/http-418"},
		"a router's 500 says nothing":                {echo.NewHTTPError(500, "secret"), 500, "/problems/internal"},
		"a router's nonsense status is a 500":        {echo.NewHTTPError(42, "secret"), 500, "/problems/internal"},
		"a deadline is unavailable":                  {fmt.Errorf("secret: %w", context.DeadlineExceeded), 503, "/problems/unavailable"},
		"a cancellation is unavailable":              {fmt.Errorf("secret: %w", context.Canceled), 503, "/problems/unavailable"},
		"a body over its limit is too large":         {fmt.Errorf("secret: %w", &http.MaxBytesError{Limit: 7}), 413, "/problems/too-large"},
		"anything else is internal":                  {errors.New("secret: mongodb://root:pw@db"), 500, "/problems/internal"},
	} {
		t.Run(name, func(t *testing.T) {
			p := problem.Of(test.err)
			if p.Status != test.status || p.Type != test.kind {
				t.Errorf("got %d %s, want %d %s", p.Status, p.Type, test.status, test.kind)
			}
			if strings.Contains(p.Error(), "secret") {
				t.Errorf("the client is told %q", p.Error())
			}
		})
	}
	if problem.Of(nil) != nil {
		t.Error("no error became a problem")
	}
}

func TestWrite(t *testing.T) {
	for name, test := range map[string]struct {
		problem *problem.Problem
		headers map[string]string
		body    string
	}{
		"bad fields are listed": {
			problem.Invalid(problem.Field("handle", "must be 3 to 30 characters")),
			map[string]string{"Content-Type": "application/problem+json", "Retry-After": "", "WWW-Authenticate": ""},
			`{"type":"/problems/invalid-field","title":"Invalid field","status":422,"detail":"errors lists each bad field and what it must be","errors":[{"field":"handle","message":"must be 3 to 30 characters"}]}`,
		},
		"Retry-After is rounded up to whole seconds": {
			problem.Unavailable("full", 1200*time.Millisecond),
			map[string]string{"Retry-After": "2"},
			`{"type":"/problems/unavailable","title":"Unavailable","status":503,"detail":"full"}`,
		},
		"Retry-After is at least one second": {
			problem.Unavailable("full", 0),
			map[string]string{"Retry-After": "1"},
			`{"type":"/problems/unavailable","title":"Unavailable","status":503,"detail":"full"}`,
		},
		"a 401 says how to authenticate": {
			problem.Unauthorized("no"),
			map[string]string{"WWW-Authenticate": "Bearer"},
			`{"type":"/problems/unauthorized","title":"Unauthorized","status":401,"detail":"no"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			w.Header().Set("Content-Length", "999")
			w.Header().Set("ETag", `"1"`)
			problem.Write(w, httptest.NewRequest("GET", "/", nil), test.problem)
			if w.Code != test.problem.Status {
				t.Errorf("got status %d", w.Code)
			}
			if diff := cmp.Diff(test.body, w.Body.String()); diff != "" {
				t.Error(diff)
			}
			test.headers["Content-Length"] = strconv.Itoa(len(test.body))
			test.headers["ETag"] = ""
			for k, want := range test.headers {
				if got := w.Header().Get(k); got != want {
					t.Errorf("%s is %q, want %q", k, got, want)
				}
			}
		})
	}
}

func TestWriteToAHEADRequestSendsNoBody(t *testing.T) {
	w := httptest.NewRecorder()
	problem.Write(w, httptest.NewRequest("HEAD", "/", nil), problem.NotFound("no"))
	if w.Code != 404 || w.Body.Len() != 0 {
		t.Errorf("got %d and %q", w.Code, w.Body)
	}
}

func TestAProblemShowsABoundedNumberOfFields(t *testing.T) {
	p := problem.Invalid(make([]problem.FieldError, 10_000)...)
	if len(p.Errors) != problem.MaxFieldErrors {
		t.Errorf("it shows %d", len(p.Errors))
	}
}

func TestTypesAreDistinctAndStable(t *testing.T) {
	all := []*problem.Problem{
		problem.BadRequest(""), problem.Unauthorized(""), problem.Forbidden(""), problem.NotFound(""),
		problem.MethodNotAllowed(""), problem.NotAcceptable(""), problem.Conflict(""),
		problem.PreconditionFailed(""), problem.TooLarge(""), problem.UnsupportedMediaType(""),
		problem.Invalid(), problem.PreconditionRequired(""), problem.TooManyRequests(0),
		problem.Internal(), problem.Unavailable("", 0),
	}
	var got []string
	for _, p := range all {
		got = append(got, fmt.Sprint(p.Status, " ", p.Type))
		if data, err := json.Marshal(p); err != nil || !json.Valid(data) {
			t.Errorf("%s: %s, %v", p.Type, data, err)
		}
	}
	want := []string{
		"400 /problems/bad-request", "401 /problems/unauthorized", "403 /problems/forbidden", "404 /problems/not-found",
		"405 /problems/method-not-allowed", "406 /problems/not-acceptable", "409 /problems/conflict",
		"412 /problems/precondition-failed", "413 /problems/too-large", "415 /problems/unsupported-media-type",
		"422 /problems/invalid-field", "428 /problems/precondition-required", "429 /problems/too-many-requests",
		"500 /problems/internal", "503 /problems/unavailable",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
