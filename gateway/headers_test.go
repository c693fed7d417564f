package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/uuid"

	"github.com/meet5/backend/gateway"
)

// secure is what every answer says.
var secure = map[string]string{
	"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
	"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Strict-Transport-Security": "",
}

func TestEveryAnswerTellsBrowsersToTrustNothingAndNobodyToKeepIt(t *testing.T) {
	// Elsewhere: a service that says other things itself.
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "yes")
		h.Set("Content-Security-Policy", "default-src *")
		h.Set("Server", "nginx")
		h.Set("Access-Control-Allow-Origin", "*")
		if r.URL.Path == "/.well-known/jwks.json" {
			h.Set("Cache-Control", "public, max-age=60")
		}
		if r.URL.Path == "/v1/me/visitors" {
			h.Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"items":[]}`)
			return
		}
		_, _ = io.WriteString(w, "x")
	}))
	defer service.Close()
	at, err := url.Parse(service.URL)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := newHouse(t, gateway.Config{}, func(d *gateway.Deps) {
		r := gateway.Remote([]*url.URL{at}, gateway.RemoteOptions{})
		d.Upstreams = gateway.Upstreams{User: r, Activity: r, Fraud: r, Projections: r}
	})
	for name, h := range map[string]*house{"here": newHouse(t, gateway.Config{}), "elsewhere": elsewhere} {
		for route, want := range map[string]struct {
			code  int
			cache string
		}{
			"GET /v1/me":                 {200, "no-store"},
			"GET /v1/me/visitors":        {200, "no-store"},
			"GET /nothing":               {404, "no-store"},
			"PUT /v1/me":                 {405, "no-store"},
			"GET /v1/logs":               {403, "no-store"},
			"GET /.well-known/jwks.json": {200, map[string]string{"here": "public, max-age=300", "elsewhere": "public, max-age=60"}[name]},
			"GET /openapi.json":          {200, "public, max-age=300"},
			"GET /docs":                  {200, "public, max-age=300"},
			"GET /livez":                 {200, "no-store"},
		} {
			method, target, _ := strings.Cut(route, " ")
			rec := h.do(method, target, "", header("Authorization", h.bearer(uuid.New())), header("Origin", "https://evil.example"))
			got := rec.Header()
			if rec.Code != want.code || strings.Join(got["Cache-Control"], "|") != want.cache {
				t.Errorf("%s, %s: %d, Cache-Control %q", name, route, rec.Code, got["Cache-Control"])
			}
			for header, value := range secure {
				if header == "Content-Security-Policy" && target == "/docs" {
					value = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
				}
				if header == "Content-Security-Policy" && target == "/openapi.json" {
					continue // as the page's
				}
				if strings.Join(got[header], "|") != value {
					t.Errorf("%s, %s: %s is %q", name, route, header, got[header])
				}
			}
			if got.Get("Server") != "" || got.Get("Access-Control-Allow-Origin") != "" || got.Get("Vary") != "" {
				t.Errorf("%s, %s: %v", name, route, got)
			}
		}
	}
}

func TestPublicPagesAreNotSentAgain(t *testing.T) {
	h := newHouse(t, gateway.Config{})
	h.user.answer = answers(200, `{"keys":[]}`)
	for _, page := range []string{"/.well-known/jwks.json", "/docs", "/openapi.json"} {
		tag := h.do("GET", page, "").Header().Get("ETag")
		for sent, want := range map[string]int{tag: 304, "W/" + tag: 304, `"x", ` + tag: 304, "*": 304, `"x"`: 200, "": 200} {
			rec := h.do("GET", page, "", header("If-None-Match", sent))
			if rec.Code != want || rec.Header().Get("ETag") != tag || (rec.Body.Len() > 0) != (want == 200) {
				t.Errorf("%s with %s: %d, %d bytes", page, sent, rec.Code, rec.Body.Len())
			}
		}
	}
}

func TestKeysThatChangeHaveAnotherTagAndAProblemHasNone(t *testing.T) {
	h := newHouse(t, gateway.Config{})
	h.user.answer = answers(200, `{"keys":[]}`)
	before := h.do("GET", "/.well-known/jwks.json", "")
	h.user.answer = answers(200, `{"keys":[{}]}`)
	after := h.do("GET", "/.well-known/jwks.json", "", header("If-None-Match", before.Header().Get("ETag")))
	if after.Code != 200 || after.Body.String() != `{"keys":[{}]}` || after.Header().Get("ETag") == before.Header().Get("ETag") {
		t.Errorf("got %d %v %s", after.Code, after.Header(), after.Body)
	}
	h.user.answer = fails
	rec := h.do("GET", "/.well-known/jwks.json", "", header("If-None-Match", "*"))
	h.wantProblem(rec, 503)
	if rec.Header().Get("ETag") != "" || rec.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("a problem may be kept: %v", rec.Header())
	}
}

// What goes wrong with a page that everybody may keep is nobody's to keep, whoever
// says that it went wrong: else one bad request would be everybody's answer.
func TestAFailureOfAPublicPageIsKeptByNobody(t *testing.T) {
	var says http.HandlerFunc
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { says(w, r) }))
	defer service.Close()
	at, err := url.Parse(service.URL)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := newHouse(t, gateway.Config{RateLimits: true}, func(d *gateway.Deps) {
		d.Upstreams.User = gateway.Remote([]*url.URL{at}, gateway.RemoteOptions{})
	})
	here := newHouse(t, gateway.Config{RateLimits: true})
	here.user.answer = func(w http.ResponseWriter, r *http.Request) { says(w, r) }
	for name, h := range map[string]*house{"here": here, "elsewhere": elsewhere} {
		for _, page := range []string{"/.well-known/jwks.json", "/.well-known/openid-configuration"} {
			check := func(why string, rec *httptest.ResponseRecorder) {
				t.Helper()
				if got := strings.Join(rec.Header()["Cache-Control"], "|"); rec.Code == 200 || got != "no-store" {
					t.Errorf("%s, %s, %s: %d may be kept: %q", name, page, why, rec.Code, got)
				}
			}
			for _, status := range []int{301, 400, 404, 431, 500, 502} {
				says = func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "text/html")
					w.WriteHeader(status)
					_, _ = io.WriteString(w, "of something between us")
				}
				check("of the service's", h.do("GET", page, ""))
			}
			says = answers(200, "{}")
			check("a body that is too long", h.do("GET", page, "", func(r *http.Request) { r.ContentLength = 1 << 30 }))
			check("a body that breaks off", h.do("GET", page, "", func(r *http.Request) {
				r.Body, r.ContentLength = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF)), 10
			}))
			check("a query that is none", h.do("GET", page, "", func(r *http.Request) { r.URL.RawQuery = "a b" }))
			check("another method", h.do("POST", page, ""))
			says = nil
		}
		for range 300 { // the clock stands still
			h.do("GET", "/docs", "")
		}
		if rec := h.do("GET", "/docs", ""); rec.Code != 429 || rec.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: too many: %d %v", name, rec.Code, rec.Header())
		}
	}
}

func TestPagesOfAllowedOriginsMayReadAnswers(t *testing.T) {
	const app = "https://app.example.org"
	h := newHouse(t, gateway.Config{Origins: []string{app, "http://localhost:3000"}})
	bearer := header("Authorization", h.bearer(uuid.New()))
	for origin, allowed := range map[string]bool{
		app: true, "http://localhost:3000": true, "https://app.example.org.evil": false, "http://app.example.org": false,
		"https://app.example.org:8443": false, "null": false, "": false, "https://APP.example.org": false,
	} {
		rec := h.do("GET", "/v1/me", "", bearer, header("Origin", origin))
		got := rec.Header()
		want := ""
		if allowed {
			want = origin
		}
		if rec.Code != 200 || got.Get("Access-Control-Allow-Origin") != want || got.Get("Vary") != "Origin" ||
			(got.Get("Access-Control-Expose-Headers") != "") != allowed || got.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("a page of %q: %d %v", origin, rec.Code, got)
		}
		// What is refused must be readable, too.
		if got := h.do("GET", "/v1/me", "", header("Origin", origin)); got.Code != 401 || got.Header().Get("Access-Control-Allow-Origin") != want {
			t.Errorf("without a token, of %q: %d %v", origin, got.Code, got.Header())
		}
		before := len(h.user.requests())
		rec = h.do("OPTIONS", "/v1/me", "", header("Origin", origin), header("Access-Control-Request-Method", "PATCH"),
			header("Access-Control-Request-Headers", "authorization,if-match"))
		got = rec.Header()
		if allowed {
			if rec.Code != 204 || got.Get("Access-Control-Allow-Origin") != origin || got.Get("Access-Control-Allow-Methods") != "DELETE, GET, PATCH" ||
				!strings.Contains(got.Get("Access-Control-Allow-Headers"), "If-Match") || got.Get("Access-Control-Max-Age") != "7200" {
				t.Errorf("a preflight of %q: %d %v", origin, rec.Code, got)
			}
		} else if rec.Code != 405 || got.Get("Access-Control-Allow-Origin")+got.Get("Access-Control-Allow-Methods") != "" {
			t.Errorf("a preflight of %q: %d %v", origin, rec.Code, got)
		}
		if len(h.user.requests()) != before {
			t.Error("a preflight reached a service")
		}
	}
	if rec := h.do("OPTIONS", "/internal/users/cards", "", header("Origin", app), header("Access-Control-Request-Method", "POST")); rec.Code != 404 {
		t.Errorf("a preflight of what is not served: %d", rec.Code)
	}
}

func TestATraceIsPassedOnIfItIsOne(t *testing.T) {
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	h := caseHouse(t)
	moderator := header("Authorization", h.bearer(uuid.New(), "moderator"))
	for sent, want := range map[string]string{
		good: good, "": "", "x": "", strings.ToUpper(good): "", good + "-x": "", good[:54]: "",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": "", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01": "",
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": "",
	} {
		for _, path := range []string{"/v1/moderation/flags", "/v1/moderation/users/" + annID} {
			rec := h.do("GET", path, "", moderator, header("Traceparent", sent), header("Tracestate", "a=b"))
			all := h.fraud.requests()
			last := all[len(all)-1].Header
			state := ""
			if want != "" {
				state = "a=b"
			}
			if rec.Code != 200 || last.Get("Traceparent") != want || last.Get("Tracestate") != state {
				t.Errorf("%s with %q: passed on as %q %q", path, sent, last.Get("Traceparent"), last.Get("Tracestate"))
			}
		}
	}
}
