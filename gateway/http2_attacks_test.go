package gateway_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/meet5/backend/gateway"
)

const (
	signIn = "POST /v1/sessions HTTP/1.1"
	keys   = "/.well-known/jwks.json"
)

// post is a request of a route that is open to everybody, with more fields.
func post(more ...string) []hpack.HeaderField {
	return append(fields(":method", "POST", ":scheme", "https", ":authority", "x", ":path", "/v1/sessions"), fields(more...)...)
}

func get(path string, more ...string) []hpack.HeaderField {
	return append(fields(":method", "GET", ":scheme", "https", ":authority", "x", ":path", path), fields(more...)...)
}

// without is a request without one of its fields.
func without(name string, list []hpack.HeaderField) []hpack.HeaderField {
	return slices.DeleteFunc(list, func(f hpack.HeaderField) bool { return f.Name == name })
}

// Two hops, HTTP/2 and then HTTP/1.1: whatever the frames of a request hold, one
// well-formed request reaches the service, with the body that was sent, or none does.
func TestNothingIsSmuggledWhereHTTP2BecomesHTTP1(t *testing.T) {
	f := newTLSFront(t, gateway.Config{})
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled)
	const refused = "refused" // with a 400 or, if HTTP/2 itself does not allow it, without an answer
	for name, attack := range map[string]struct {
		head    []hpack.HeaderField
		data    string
		trailer []hpack.HeaderField
		want    string
	}{
		"an encoding":                      {post("transfer-encoding", "chunked"), chunk, nil, refused},
		"an encoding that is none":         {post("transfer-encoding", "identity"), chunk, nil, refused},
		"an encoding in upper case":        {post("Transfer-Encoding", "chunked"), chunk, nil, refused},
		"an encoding in a name":            {post("x-a: b\r\ntransfer-encoding", "chunked"), chunk, nil, refused},
		"an encoding in a value":           {post("x-a", "b\r\nTransfer-Encoding: chunked"), chunk, nil, refused},
		"an encoding behind a line feed":   {post("x-a", "b\nTransfer-Encoding: chunked"), chunk, nil, refused},
		"an encoding before a blank":       {post("transfer-encoding ", "chunked"), chunk, nil, refused},
		"an encoding before a colon":       {post("transfer-encoding:", "chunked"), chunk, nil, refused},
		"a length that is too small":       {post("content-length", "2"), "{}" + smuggled, nil, refused},
		"a length of nothing":              {post("content-length", "0"), smuggled, nil, refused},
		"a length that is too great":       {post("content-length", "400"), "{}", nil, refused},
		"a length that is too great, long": {post("content-length", "100000"), "{}", nil, "413"},
		"a length without a body":          {post("content-length", "2"), "", nil, refused},
		"two lengths":                      {post("content-length", "0", "content-length", "90"), smuggled, nil, refused},
		"two lengths, the first is right":  {post("content-length", "2", "content-length", "90"), "{}", nil, refused},
		"the same length twice":            {post("content-length", "2", "content-length", "2"), "{}", nil, refused},
		"two lengths in a value":           {post("content-length", "2, 2"), "{}", nil, refused},
		"a length with a sign":             {post("content-length", "+2"), "{}", nil, refused},
		"a negative length":                {post("content-length", "-1"), "{}", nil, refused},
		"a length in hexadecimal":          {post("content-length", "0x2"), "{}", nil, refused},
		"a length with a blank":            {post("content-length", " 2"), "{}", nil, refused},
		"a length of letters":              {post("content-length", "two"), "{}", nil, refused},
		"a length out of bounds":           {post("content-length", "99999999999999999999"), "{}", nil, refused},
		"no length":                        {post(), "{}", nil, "200"},
		"a zero byte":                      {post("x-a", "b\x00c"), "{}", nil, refused},
		"a zero byte in a name":            {post("x-\x00a", "b"), "{}", nil, refused},
		"a carriage return":                {post("x-a", "b\rc"), "{}", nil, refused},
		"an empty name":                    {post("", "b"), "{}", nil, refused},
		"a name with a blank":              {post("x a", "b"), "{}", nil, refused},
		"a value with blanks around":       {post("x-a", " b\t"), "{}", nil, "200"},
		"a value of other letters":         {post("x-a", "\xff\xfe"), "{}", nil, "200"},
		"connection":                       {post("connection", "x-request-timeout, authorization"), "{}", nil, refused},
		"proxy-connection":                 {post("proxy-connection", "keep-alive"), "{}", nil, refused},
		"keep-alive":                       {post("keep-alive", "timeout=5"), "{}", nil, refused},
		"upgrade":                          {post("upgrade", "h2c"), "{}", nil, refused},
		"http2-settings":                   {post("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"), "{}", nil, "200"},
		"te":                               {post("te", "chunked"), "{}", nil, refused},
		"te of trailers":                   {post("te", "trailers"), "{}", nil, "200"},
		"expect":                           {post("expect", "100-continue"), "{}", nil, "200"},
		"expect something else":            {post("expect", "200-fine"), "{}", nil, "200"},
		"another host":                     {post("host", "internal"), "{}", nil, refused},
		"two hosts":                        {post("host", "x", "host", "internal"), "{}", nil, refused},
		"a host alone":                     {append(without(":authority", post()), fields("host", "x")...), "{}", nil, "200"},
		"no host":                          {without(":authority", post()), "{}", nil, "200"},
		"an authority with a user":         {append(fields(":authority", "user@internal"), without(":authority", post())...), "{}", nil, refused},
		"an authority with a line end":     {append(fields(":authority", "x\r\nX-A: b"), without(":authority", post())...), "{}", nil, refused},
		"an authority with a path":         {append(fields(":authority", "x/internal?"), without(":authority", post())...), "{}", nil, refused},
		"an authority with a blank":        {append(fields(":authority", "x internal"), without(":authority", post())...), "{}", nil, refused},
		"two authorities":                  {append(fields(":authority", "internal"), post()...), "{}", nil, refused},
		"two methods":                      {append(fields(":method", "GET"), post()...), "{}", nil, refused},
		"two paths":                        {append(fields(":path", "/internal/users/cards"), post()...), "{}", nil, refused},
		"no path":                          {without(":path", post()), "{}", nil, refused},
		"no method":                        {without(":method", post()), "{}", nil, refused},
		"no scheme":                        {without(":scheme", post()), "{}", nil, refused},
		"another scheme":                   {append(fields(":scheme", "gopher"), without(":scheme", post())...), "{}", nil, refused},
		"a scheme with a line end":         {append(fields(":scheme", "https://x/\r\n"), without(":scheme", post())...), "{}", nil, refused},
		"a plain scheme":                   {append(fields(":scheme", "http"), without(":scheme", post())...), "{}", nil, "200"},
		"an unknown pseudo-header":         {append(fields(":status", "200"), post()...), "{}", nil, refused},
		"a pseudo-header of nobody's":      {append(fields(":internal", "1"), post()...), "{}", nil, refused},
		"a pseudo-header too late":         {append(fields("x-a", "b"), post()...), "{}", nil, refused},
		"a path too late":                  {append(without(":path", post()), fields("x-a", "b", ":path", "/internal/users/cards")...), "{}", nil, refused},
		"a method with a blank":            {append(fields(":method", "POST /internal/users/cards HTTP/1.1"), without(":method", post())...), "{}", nil, "405"},
		"a method with a line end":         {append(fields(":method", "POST /internal HTTP/1.1\r\nHost: x\r\n\r\nGET"), without(":method", post())...), "{}", nil, refused},
		"an empty method":                  {append(fields(":method", ""), without(":method", post())...), "{}", nil, refused},
		"a method in lower case":           {append(fields(":method", "post"), without(":method", post())...), "{}", nil, "405"},
		"a tunnel":                         {fields(":method", "CONNECT", ":authority", "internal:80"), smuggled, nil, "404"},
		"a tunnel with a path":             {append(fields(":method", "CONNECT"), without(":method", post())...), smuggled, nil, refused},
		"a web socket":                     {append(fields(":method", "CONNECT", ":protocol", "websocket"), without(":method", get(keys))...), smuggled, nil, refused},
		"a protocol without a tunnel":      {append(fields(":protocol", "websocket"), get(keys)...), "", nil, refused},
		"a path with a blank":              {get(keys + " HTTP/1.1"), "", nil, "404"},
		"a path with a line end":           {get(keys + " HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled), "", nil, refused},
		"a path with a line feed":          {get(keys + "\n/internal"), "", nil, refused},
		"a path with a zero byte":          {get(keys + "\x00"), "", nil, refused},
		"a path with an escaped line end":  {get(keys + "%0d%0a"), "", nil, "404"},
		"a path with a letter of another":  {get(keys + "\xff"), "", nil, "404"},
		"a path with a fragment":           {get(keys + "#/../internal"), "", nil, "404"},
		"a path without a slash":           {get("internal/users/cards"), "", nil, refused},
		"an empty path":                    {get(""), "", nil, refused},
		"an asterisk":                      {append(fields(":method", "OPTIONS"), without(":method", get("*"))...), "", nil, "404"},
		"an asterisk to read":              {get("*"), "", nil, "404"},
		"an absolute path":                 {get("https://internal" + keys), "", nil, "200"},
		"an absolute path to the inside":   {get("http://x/internal/users/cards"), "", nil, "404"},
		"two slashes":                      {get("//internal" + keys), "", nil, "404"},
		"a path of dots":                   {get("/v1/me/../../internal/users/cards"), "", nil, "404"},
		"a backslash":                      {get(`/.well-known\jwks.json`), "", nil, "404"},
		"a query with a blank":             {get(keys + "?a b"), "", nil, refused},
		"a query with a request line":      {get(keys + "?a HTTP/1.1"), "", nil, refused},
		"a query with a line end":          {get(keys + "?a HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled), "", nil, refused},
		"a query with a tab":               {get(keys + "?a\tb"), "", nil, refused},
		"a query with a fragment":          {get(keys + "?a#b"), "", nil, refused},
		"a query of other letters":         {get(keys + "?a=\xff\xc3\xa4"), "", nil, refused},
		"a query with a bad escape":        {get(keys + "?a=%zz"), "", nil, "200"},
		"trailers":                         {post(), "{}", fields("x-note", "hi", "content-length", "90", "transfer-encoding", "chunked", "authorization", "Bearer x"), "200"},
		"announced trailers":               {post("trailer", "X-Note, X-Forwarded-For"), "{}", fields("x-note", "hi", "x-forwarded-for", "203.0.113.9"), "200"},
		"trailers that are announced amiss": {post("trailer", "Content-Length, Transfer-Encoding, Host, Trailer, Authorization"), "{}",
			fields("content-length", "90", "transfer-encoding", "chunked", "host", "internal", "authorization", "Bearer x"), refused},
		"a pseudo-header in trailers": {post(), "{}", fields(":path", "/internal/users/cards"), refused},
		"a line end in a trailer":     {post("trailer", "X-A"), "{}", fields("x-a", "b\r\nX-B: c"), refused},
		"a body of a GET":             {get(keys), smuggled, nil, "200"},
		"cookies in pieces":           {post("cookie", "a=1", "cookie", "b=2; c=3", "cookie", "d=4"), "{}", nil, "200"},
	} {
		t.Run(name, func(t *testing.T) {
			p := dial(t, f.address)
			id, err := p.open(attack.data == "" && attack.trailer == nil, attack.head)
			if err == nil && attack.data != "" {
				err = p.WriteData(id, attack.trailer == nil, []byte(attack.data))
			}
			if err == nil && attack.trailer != nil {
				err = p.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndStream|http2.FlagHeadersEndHeaders, id, p.encode(attack.trailer))
			}
			if err != nil {
				t.Fatal(err)
			}
			got := p.outcome(id).String()
			if got == "400" || got == "no answer" {
				got = refused
			}
			if got != attack.want {
				t.Errorf("it came to %s, want %s", got, attack.want)
			}
			requests, malformed := f.service.taken()
			for _, m := range malformed {
				t.Errorf("the service was sent what is no HTTP: %s", m)
			}
			if reached := map[bool]int{true: 1}[got == "200"]; len(requests) != reached {
				t.Errorf("%d requests reached the service, want %d: %v", len(requests), reached, requests)
			}
			for _, r := range requests {
				if r.line != signIn && r.line != "GET "+keys+" HTTP/1.1" {
					t.Errorf("the service was asked for %q", r.line)
				}
				if r.body != attack.data {
					t.Errorf("the body came as %q", r.body)
				}
				for _, name := range []string{"Connection", "Upgrade", "Te", "Keep-Alive", "Trailer", "Expect", "Http2-Settings", "Proxy-Connection"} {
					if v := r.has(name); v != nil {
						t.Errorf("the service got %s: %v", name, v)
					}
				}
				if from := r.has("X-Forwarded-For"); !slices.Equal(from, []string{"127.0.0.1"}) {
					t.Errorf("the service was told that it comes from %v", from)
				}
				if strings.Contains(strings.Join(r.fields, "\n"), "internal") || strings.Contains(strings.Join(r.fields, "\n"), "trailer ") {
					t.Errorf("the service got %q", r.fields)
				}
			}
		})
	}
	// After all that, the connections to the service are in step.
	p := dial(t, f.address)
	for range 20 {
		id, err := p.open(false, post("content-length", "2"))
		if err == nil {
			err = p.WriteData(id, true, []byte("{}"))
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := p.outcome(id).String(); got != "200" {
			t.Fatalf("a plain request is answered with %s", got)
		}
	}
	requests, malformed := f.service.taken()
	if len(requests) != 20 || len(malformed) != 0 {
		t.Errorf("20 plain requests came as %d: %v", len(requests), malformed)
	}
	for _, r := range requests {
		if r.line != signIn || r.body != "{}" {
			t.Errorf("a plain request came as %+v", r)
		}
	}
}

// What is too long to be taken in whole is passed on as it comes, in chunks; trailers
// go no further than the door.
func TestTrailersOfALongBodyReachNoService(t *testing.T) {
	f := newTLSFront(t, gateway.Config{})
	long := strings.Repeat("x", 100<<10)
	p := dial(t, f.address)
	head := fields(":method", "POST", ":scheme", "https", ":authority", "x", ":path", "/v1/activities/batch", "authorization", f.bearer(uuid.New()),
		"trailer", "X-Forwarded-For, X-Note")
	id, err := p.open(false, head)
	for rest := long; err == nil && rest != ""; {
		n := min(len(rest), 16<<10)
		err = p.WriteData(id, false, []byte(rest[:n]))
		rest = rest[n:]
	}
	if err == nil {
		err = p.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndStream|http2.FlagHeadersEndHeaders, id,
			p.encode(fields("x-forwarded-for", "203.0.113.9", "x-note", "hi")))
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := p.outcome(id).String(); got != "200" {
		t.Errorf("it came to %s", got)
	}
	requests, malformed := f.service.taken()
	if len(requests) != 1 || len(malformed) != 0 {
		t.Fatalf("it came as %v %v", requests, malformed)
	}
	if r := requests[0]; r.body != long || !slices.Equal(r.has("Transfer-Encoding"), []string{"chunked"}) || r.has("Trailer") != nil || strings.Contains(fmt.Sprint(r.fields), "trailer ") {
		t.Errorf("it came as %q with %d bytes", r.fields, len(r.body))
	}
}
