package gateway

import (
	"net/http"
	"strconv"

	"github.com/meet5/backend/service/problem"
)

// checkForm refuses a request that HTTP/2 carries and HTTP/1.1 cannot say, or says
// twice: whatever reads it after us could take it for another one. What net/http
// lets through is looked at here; the rest never gets so far.
func checkForm(r *http.Request) error {
	switch {
	case !plainQuery(r.URL.RawQuery):
		return problem.BadRequest("the query holds a character that must be written as an escape")
	case !agrees(r.Header["Content-Length"], r.ContentLength):
		return problem.BadRequest("the Content-Length is not that of the body")
	}
	if r.ProtoMajor < 2 {
		return nil // net/http has looked at the host, and taken it out of the header
	}
	if hosts := r.Header["Host"]; len(hosts) > 1 || len(hosts) == 1 && hosts[0] != r.Host || !plainHost(r.Host) {
		return problem.BadRequest("the host is none, or there are two")
	}
	return nil
}

// plainQuery says whether a query can stand in a request line.
func plainQuery(query string) bool {
	for i := range len(query) {
		if c := query[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// plainHost says whether host is a name or an address, with or without a port.
func plainHost(host string) bool {
	for i := range len(host) {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '_', c == '.', c == ':', c == '[', c == ']':
		default:
			return false
		}
	}
	return true
}

// agrees says whether a request says of its length what it is, once at most.
func agrees(said []string, length int64) bool {
	switch len(said) {
	case 0:
		return true
	case 1:
		n, err := strconv.ParseInt(said[0], 10, 64)
		return err == nil && n == length
	}
	return false
}
