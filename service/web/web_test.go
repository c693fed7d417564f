package web_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/meet5/backend/service/metrics"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logged is a log that a test can read while a server writes it.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.FieldsFunc(l.buf.String(), func(r rune) bool { return r == '\n' })
}

// serve puts routes on a real server and returns a client's way to call it.
func serve(t *testing.T, o web.Options, routes func(e *echo.Echo)) (url string, log *logged) {
	t.Helper()
	log = &logged{}
	o.Logger = slog.New(slog.NewJSONHandler(log, nil))
	e := web.New(o)
	routes(e)
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return server.URL, log
}

type answer struct {
	status  int
	header  http.Header
	body    string
	problem problem.Problem
}

func send(t *testing.T, method, url string, body io.Reader, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header, body: string(data)}
	if res.Header.Get("Content-Type") == problem.ContentType {
		if err := json.Unmarshal(data, &a.problem); err != nil {
			t.Fatalf("a problem is not JSON: %q", data)
		}
		if a.problem.Status != a.status {
			t.Errorf("a problem of status %d came with status %d", a.problem.Status, a.status)
		}
	}
	return a
}

func TestErrorsLeaveAsProblems(t *testing.T) {
	url, log := serve(t, web.Options{}, func(e *echo.Echo) {
		e.GET("/ok", func(c echo.Context) error { return c.String(200, "ok") })
		e.GET("/gone", func(echo.Context) error { return fmt.Errorf("find: %w", problem.NotFound("no such user")) })
		e.GET("/broken", func(echo.Context) error { return errors.New("mongodb://root:secret@db is down") })
		e.GET("/full", func(echo.Context) error { return problem.Unavailable("the queue is full", 1) })
		e.GET("/panic", func(echo.Context) error { panic("secret") })
	})
	for name, test := range map[string]struct {
		method, path string
		status       int
		kind         string
	}{
		"a handler's problem":         {"GET", "/gone", 404, "/problems/not-found"},
		"a handler's other error":     {"GET", "/broken", 500, "/problems/internal"},
		"overload":                    {"GET", "/full", 503, "/problems/unavailable"},
		"a panic":                     {"GET", "/panic", 500, "/problems/internal"},
		"an unknown path":             {"GET", "/nothing", 404, "/problems/not-found"},
		"an unknown method":           {"POST", "/ok", 405, "/problems/method-not-allowed"},
		"a method of no one's making": {"BREW", "/ok", 405, "/problems/method-not-allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(log.lines())
			a := send(t, test.method, url+test.path, nil)
			if a.status != test.status || a.problem.Type != test.kind {
				t.Errorf("got %d %s", a.status, a.body)
			}
			if strings.Contains(a.body, "secret") {
				t.Errorf("the client is told %s", a.body)
			}
			if test.status == 405 && a.header.Get("Allow") != "OPTIONS, GET" {
				t.Errorf("Allow is %q", a.header.Get("Allow"))
			}
			if test.status == 503 && a.header.Get("Retry-After") != "1" {
				t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
			}
			lines := log.lines()[before:]
			if test.status < 500 {
				if len(lines) > 0 {
					t.Errorf("a client's fault was logged: %s", lines)
				}
				return
			}
			if len(lines) != 1 {
				t.Fatalf("logged %d times: %s", len(lines), lines)
			}
			var record map[string]any
			if err := json.Unmarshal([]byte(lines[0]), &record); err != nil {
				t.Fatal(err)
			}
			if record["request_id"] != a.header.Get("X-Request-Id") || record["route"] != test.path || record["error"] == nil {
				t.Errorf("logged %s", lines[0])
			}
			if _, ok := record["stack"]; ok != (test.path == "/panic") {
				t.Errorf("logged %s", lines[0])
			}
		})
	}
}

func TestAHandlerThatFailsHalfwayHasItsAnswerCut(t *testing.T) {
	url, log := serve(t, web.Options{}, func(e *echo.Echo) {
		e.GET("/export", func(c echo.Context) error {
			if _, err := io.WriteString(c.Response(), "line 1\n"); err != nil {
				return err
			}
			c.Response().Flush()
			return errors.New("the log is gone")
		})
	})
	res, err := http.Get(url + "/export")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if data, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("half an answer was taken for a whole one: %q", data)
	}
	if lines := log.lines(); len(lines) != 1 || !strings.Contains(lines[0], `"answer_cut":true`) {
		t.Errorf("logged %s", lines)
	}
}

func TestAClientThatLeavesIsNotOurFault(t *testing.T) {
	arrived := make(chan struct{})
	reg, log := metrics.NewRegistry(), &logged{}
	e := web.New(web.Options{Metrics: reg, Service: "user", Logger: slog.New(slog.NewJSONHandler(log, nil))})
	e.GET("/slow", func(c echo.Context) error {
		close(arrived)
		<-c.Request().Context().Done()
		return fmt.Errorf("read: %w", c.Request().Context().Err())
	})
	server := httptest.NewServer(e)
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/slow", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-arrived
		leave()
	}()
	if res, err := http.DefaultClient.Do(r); err == nil {
		res.Body.Close()
		t.Error("it was answered")
	}
	server.Close() // waits for the request to end
	if lines := log.lines(); len(lines) != 0 {
		t.Errorf("logged %s", lines)
	}
	want := map[string]bool{`{method="GET",route="/slow",service="user",status="4xx"} 1`: true}
	if diff := cmp.Diff(want, counts(reg)); diff != "" {
		t.Error(diff)
	}
}

// timedWriter notes the read deadlines that are set on its connection.
type timedWriter struct {
	*httptest.ResponseRecorder
	deadlines []time.Time
}

func (w *timedWriter) SetReadDeadline(at time.Time) error {
	w.deadlines = append(w.deadlines, at)
	return nil
}

func TestABodyHasADeadlineUntilItIsRead(t *testing.T) {
	e := web.New(web.Options{})
	e.POST("/bind", func(c echo.Context) error {
		var v activity
		return web.Bind(c, &v)
	})
	e.POST("/ignore", func(c echo.Context) error { return c.NoContent(204) })
	e.GET("/stream", func(c echo.Context) error { return c.NoContent(204) })
	for name, test := range map[string]struct {
		method, path string
		body         io.Reader
		set, lifted  bool
		status       int
	}{
		"a body that is read":               {"POST", "/bind", strings.NewReader(activityBody), true, true, 200},
		"a body that is left":               {"POST", "/ignore", strings.NewReader(activityBody), true, false, 204},
		"a body that comes too late":        {"POST", "/bind", iotest.ErrReader(os.ErrDeadlineExceeded), true, false, 408},
		"a request without a body has none": {"GET", "/stream", nil, false, false, 204},
	} {
		t.Run(name, func(t *testing.T) {
			w := &timedWriter{ResponseRecorder: httptest.NewRecorder()}
			r := httptest.NewRequest(test.method, test.path, test.body)
			r.Header.Set("Content-Type", "application/json")
			before := time.Now()
			e.ServeHTTP(w, r)
			after := time.Now()
			if w.Code != test.status {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			set := len(w.deadlines) > 0
			lifted := len(w.deadlines) == 2 && w.deadlines[1].IsZero()
			if set != test.set || lifted != test.lifted {
				t.Errorf("deadlines: %v", w.deadlines)
			}
			if set && (w.deadlines[0].Before(before.Add(web.BodyTimeout)) || w.deadlines[0].After(after.Add(web.BodyTimeout))) {
				t.Errorf("the deadline is %v from now", w.deadlines[0].Sub(before))
			}
		})
	}
}

func TestEveryResponseCarriesARequestID(t *testing.T) {
	var seen string
	url, _ := serve(t, web.Options{}, func(e *echo.Echo) {
		e.GET("/", func(c echo.Context) error {
			if web.RequestID(c) != c.Request().Header.Get("X-Request-Id") {
				t.Error("what it is forwarded to would see another ID")
			}
			seen = web.RequestID(c)
			return c.NoContent(204)
		})
	})
	for name, test := range map[string]struct {
		sent string
		kept bool
	}{
		"a client's own is kept":                 {"01HXY-abc_d.e:f", true},
		"one of 64 characters is kept":           {strings.Repeat("a", 64), true},
		"one of 65 characters is replaced":       {strings.Repeat("a", 65), false},
		"one with a space is replaced":           {"a b", false},
		"one that forges log fields is replaced": {`a","level":"x`, false},
		"one that is not ASCII is replaced":      {"é", false},
		"a missing one is made":                  {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			a := send(t, "GET", url+"/", nil, "X-Request-Id", test.sent)
			got := a.header.Get("X-Request-Id")
			if got != seen || got == "" || len(got) > web.MaxRequestID || (got == test.sent) != test.kept {
				t.Errorf("sent %q, got %q, the handler saw %q", test.sent, got, seen)
			}
		})
	}
	if a, b := send(t, "GET", url+"/nothing", nil).header.Get("X-Request-Id"), send(t, "GET", url+"/nothing", nil).header.Get("X-Request-Id"); a == b || a == "" {
		t.Errorf("two requests have the IDs %q and %q", a, b)
	}
}

func TestBind(t *testing.T) {
	url, _ := serve(t, web.Options{BodyLimit: 200}, func(e *echo.Echo) {
		bind := func(c echo.Context) error {
			var v activity
			if err := web.Bind(c, &v); err != nil {
				return err
			}
			return c.String(200, v.Type)
		}
		e.POST("/", bind)
		e.POST("/large", bind, web.BodyLimit(1000))
		e.POST("/larger", bind, web.BodyLimit(100<<10))
	})
	fits := func(n int) string { return activityBody + strings.Repeat(" ", n-len(activityBody)) }
	chunked := func(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) }
	for name, test := range map[string]struct {
		path, contentType string
		body              io.Reader
		status            int
	}{
		"a body that fits":                        {"/", "application/json", strings.NewReader(activityBody), 200},
		"a content type with parameters":          {"/", "Application/JSON; charset=utf-8", strings.NewReader(activityBody), 200},
		"a chunked body":                          {"/", "application/json", chunked(activityBody), 200},
		"no content type":                         {"/", "", strings.NewReader(activityBody), 415},
		"another content type":                    {"/", "text/json", strings.NewReader(activityBody), 415},
		"a content type that cannot be read":      {"/", "application/json; charset", strings.NewReader(activityBody), 415},
		"no body":                                 {"/", "application/json", nil, 400},
		"an empty body":                           {"/", "application/json", strings.NewReader(""), 400},
		"an empty chunked body":                   {"/", "application/json", chunked(""), 400},
		"a body of exactly the limit":             {"/", "application/json", strings.NewReader(fits(200)), 200},
		"a body over the limit":                   {"/", "application/json", strings.NewReader(fits(201)), 413},
		"a chunked body of exactly the limit":     {"/", "application/json", chunked(fits(200)), 200},
		"a chunked body over the limit":           {"/", "application/json", chunked(fits(201)), 413},
		"a body within the route's own limit":     {"/large", "application/json", strings.NewReader(fits(1000)), 200},
		"a body over the route's own limit":       {"/large", "application/json", strings.NewReader(fits(1001)), 413},
		"a chunked body over the route's limit":   {"/large", "application/json", chunked(fits(1001)), 413},
		"a body larger than is allocated at once": {"/larger", "application/json", strings.NewReader(fits(90 << 10)), 200},
		"a body much larger than the limit":       {"/", "application/json", chunked(fits(2 << 20)), 413},
	} {
		t.Run(name, func(t *testing.T) {
			a := send(t, "POST", url+test.path, test.body, "Content-Type", test.contentType)
			if a.status != test.status || a.status >= 400 && a.problem.Status == 0 {
				t.Errorf("got %d %s", a.status, a.body)
			}
		})
	}
}

func TestABodyThatBreaksOffIsABadRequest(t *testing.T) {
	url, log := serve(t, web.Options{}, func(e *echo.Echo) {
		e.POST("/", func(c echo.Context) error {
			var v activity
			return web.Bind(c, &v)
		})
		e.POST("/lines", func(c echo.Context) error {
			lines := bufio.NewScanner(c.Request().Body)
			for lines.Scan() {
			}
			return lines.Err()
		})
	})
	for name, request := range map[string]string{
		"a body shorter than its length":         "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
		"malformed chunks":                       "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{",
		"malformed chunks that are streamed":     "POST /lines HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{",
		"a streamed body shorter than it's said": "POST /lines HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nab\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, request); err != nil {
				t.Fatal(err)
			}
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != 400 {
				t.Errorf("got %s", res.Status)
			}
		})
	}
	if lines := log.lines(); len(lines) != 0 {
		t.Errorf("logged %s", lines)
	}
}

func TestPage(t *testing.T) {
	url, _ := serve(t, web.Options{}, func(e *echo.Echo) {
		e.GET("/", func(c echo.Context) error {
			limit, cursor, err := web.Page(c)
			if err != nil {
				return err
			}
			return c.String(200, fmt.Sprint(limit, " ", cursor))
		})
	})
	for query, want := range map[string]string{
		"":                              "50 ",
		"?limit=1":                      "1 ",
		"?limit=100&cursor=ab":          "100 ab",
		"?limit=0":                      "limit",
		"?limit=101":                    "limit",
		"?limit=-1":                     "limit",
		"?limit=":                       "limit",
		"?limit=1e1":                    "limit",
		"?limit=9999999999999999999999": "limit",
	} {
		a := send(t, "GET", url+"/"+query, nil)
		got := a.body
		if a.status == 422 && len(a.problem.Errors) == 1 {
			got = a.problem.Errors[0].Field
		}
		if got != want {
			t.Errorf("%q: got %d %s", query, a.status, a.body)
		}
	}
}

func TestList(t *testing.T) {
	var items any
	var next string
	url, _ := serve(t, web.Options{}, func(e *echo.Echo) {
		e.GET("/v1/users/:id/visitors", func(c echo.Context) error { return web.List(c, items, next) })
	})
	for name, test := range map[string]struct {
		items any
		next  string
		query string
		body  string
		link  string
	}{
		"a last page has no next":              {[]int{1, 2}, "", "", `{"items":[1,2]}`, ""},
		"no items are an empty list":           {[]int(nil), "", "", `{"items":[]}`, ""},
		"a next page has a link":               {[]int{1}, "a-b_c", "", `{"items":[1],"next":"a-b_c"}`, `</v1/users/a%20b/visitors?cursor=a-b_c>; rel="next"`},
		"the link keeps the rest of the query": {[]int{1}, "new", "?since=a&limit=1&cursor=old", `{"items":[1],"next":"new"}`, `</v1/users/a%20b/visitors?cursor=new&limit=1&since=a>; rel="next"`},
		"the link cannot be broken out of":     {[]int{1}, "new", "?x=%3E%3B%0D%0A%22", `{"items":[1],"next":"new"}`, `</v1/users/a%20b/visitors?cursor=new&x=%3E%3B%0D%0A%22>; rel="next"`},
	} {
		t.Run(name, func(t *testing.T) {
			items, next = test.items, test.next
			a := send(t, "GET", url+"/v1/users/a%20b/visitors"+test.query, nil)
			if diff := cmp.Diff(test.body, a.body); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.link, a.header.Get("Link")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestIfMatch(t *testing.T) {
	url, _ := serve(t, web.Options{}, func(e *echo.Echo) {
		e.GET("/", func(c echo.Context) error {
			web.SetETag(c, web.ETag(7))
			return c.NoContent(204)
		})
		e.PATCH("/", func(c echo.Context) error { return web.IfMatch(c, web.ETag(7)) })
		e.POST("/", func(c echo.Context) error { return web.IfMatchOptional(c, web.ETag(7)) })
	})
	tag := send(t, "GET", url, nil).header.Get("ETag")
	for name, test := range map[string]struct {
		method, header string
		status         int
	}{
		"the current version":                   {"PATCH", tag, 200},
		"the current version among others":      {"PATCH", `"5", ` + tag, 200},
		"any version":                           {"PATCH", "*", 200},
		"another version":                       {"PATCH", `"6"`, 412},
		"a version without quotes":              {"PATCH", "7", 412},
		"a weak tag, which never matches":       {"PATCH", "W/" + tag, 412},
		"no version where one is needed":        {"PATCH", "", 428},
		"no version where it is optional":       {"POST", "", 200},
		"another version where it is optional":  {"POST", `"6"`, 412},
		"the same version where it is optional": {"POST", tag, 200},
	} {
		t.Run(name, func(t *testing.T) {
			var headers []string
			if test.header != "" {
				headers = []string{"If-Match", test.header}
			}
			if a := send(t, test.method, url, nil, headers...); a.status != test.status {
				t.Errorf("got %d %s", a.status, a.body)
			}
		})
	}
}

func TestAClientsAddressIsItsConnectionsUnlessAProxyIsTrusted(t *testing.T) {
	for name, test := range map[string]struct {
		trusted   []netip.Prefix
		peer      string
		forwarded string
		want      string
	}{
		"no proxy is trusted":                 {nil, "10.0.0.1:9", "1.2.3.4", "10.0.0.1"},
		"a trusted proxy is believed":         {prefixes("10.0.0.0/8"), "10.0.0.1:9", "1.2.3.4", "1.2.3.4"},
		"what a client forged is not":         {prefixes("10.0.0.0/8"), "10.0.0.1:9", "6.6.6.6, 1.2.3.4", "1.2.3.4"},
		"another private peer is not trusted": {prefixes("10.0.0.0/8"), "192.168.0.1:9", "1.2.3.4", "192.168.0.1"},
		"loopback is not trusted by itself":   {prefixes("10.0.0.0/8"), "127.0.0.1:9", "1.2.3.4", "127.0.0.1"},
		"a chain of trusted proxies":          {prefixes("10.0.0.0/8", "fd00::/8"), "[fd00::1]:9", "1.2.3.4, 10.0.0.2", "1.2.3.4"},
	} {
		t.Run(name, func(t *testing.T) {
			e := web.New(web.Options{TrustedProxies: test.trusted})
			e.GET("/", func(c echo.Context) error { return c.String(200, c.RealIP()) })
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = test.peer
			r.Header.Set("X-Forwarded-For", test.forwarded)
			w := httptest.NewRecorder()
			e.ServeHTTP(w, r)
			if w.Body.String() != test.want {
				t.Errorf("got %s, want %s", w.Body, test.want)
			}
		})
	}
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestRequestsAreMeasuredByRoute(t *testing.T) {
	reg := metrics.NewRegistry()
	url, _ := serve(t, web.Options{Metrics: reg, Service: "user"}, func(e *echo.Echo) {
		e.GET("/v1/users/:id", func(c echo.Context) error {
			if c.Param("id") == "0" {
				return problem.NotFound("no")
			}
			return c.NoContent(204)
		})
	})
	other, _ := serve(t, web.Options{Metrics: reg, Service: "fraud"}, func(*echo.Echo) {})
	send(t, "GET", url+"/v1/users/1", nil)
	send(t, "GET", url+"/v1/users/2", nil)
	send(t, "GET", url+"/v1/users/0", nil)
	send(t, "GET", url+"/what/ever", nil)
	send(t, "BREW", other+"/what/ever", nil)

	want := map[string]bool{
		`{method="GET",route="/v1/users/:id",service="user",status="2xx"} 2`: true,
		`{method="GET",route="/v1/users/:id",service="user",status="4xx"} 1`: true,
		`{method="GET",route="none",service="user",status="4xx"} 1`:          true,
		`{method="other",route="none",service="fraud",status="4xx"} 1`:       true,
	}
	if diff := cmp.Diff(want, counts(reg)); diff != "" {
		t.Error(diff)
	}
}

// counts is how many requests each series has.
func counts(reg *prometheus.Registry) map[string]bool {
	w := httptest.NewRecorder()
	metrics.Handler(reg).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	got := map[string]bool{}
	for line := range strings.Lines(w.Body.String()) {
		if rest, ok := strings.CutPrefix(line, "meet5_http_request_duration_seconds_count"); ok {
			got[strings.TrimSpace(rest)] = true
		}
	}
	return got
}

func BenchmarkBind(b *testing.B) {
	e := web.New(web.Options{Metrics: metrics.NewRegistry(), Service: "bench"})
	e.POST("/v1/activities", func(c echo.Context) error {
		var v activity
		if err := web.Bind(c, &v); err != nil {
			return err
		}
		return c.NoContent(http.StatusCreated)
	})
	serveBenchmark(b, e)
}

// BenchmarkBareEcho is a bare echo handler that only decodes the same JSON.
func BenchmarkBareEcho(b *testing.B) {
	e := echo.New()
	e.POST("/v1/activities", func(c echo.Context) error {
		var v activity
		if err := c.Bind(&v); err != nil {
			return err
		}
		return c.NoContent(http.StatusCreated)
	})
	serveBenchmark(b, e)
}

func serveBenchmark(b *testing.B, h http.Handler) {
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest("POST", "/v1/activities", strings.NewReader(activityBody))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusCreated {
			b.Fatal(w.Code, w.Body)
		}
	}
}
