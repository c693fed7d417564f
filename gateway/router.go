package gateway

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// maxSegment bounds, in bytes, what may stand for a {name} in a path. Ours are
// UUIDs, and names of rules and logs.
const maxSegment = 128

// resource is a path of the table with all its methods.
type resource struct {
	pattern  string
	segments []string // of a pattern with names
	routes   []*route // one per method
	allow    string   // the Allow header
}

func (rs *resource) route(method string) *route {
	for _, rt := range rs.routes {
		if rt.method == method {
			return rt
		}
	}
	return nil
}

// router finds the resource of a path. A path without names wins over one with.
type router struct {
	plain map[string]*resource
	named []*resource
}

func newRouter(table []route) (router, error) {
	r := router{plain: make(map[string]*resource)}
	for _, rt := range table {
		rs := r.resource(rt.path)
		if rs.route(rt.method) != nil {
			return router{}, fmt.Errorf("%s %s is in the routing table twice", rt.method, rt.path)
		}
		if rt.body == 0 {
			rt.body = defaultBody
		}
		switch rt.to.(type) {
		case *remote, own:
		default:
			rt.inPlace = true
		}
		rs.routes = append(rs.routes, &rt)
		methods := make([]string, 0, len(rs.routes))
		for _, rt := range rs.routes {
			methods = append(methods, rt.method)
		}
		slices.Sort(methods)
		rs.allow = strings.Join(methods, ", ")
	}
	return r, nil
}

// resource returns the resource of a pattern, a new one if there is none yet.
func (r *router) resource(pattern string) *resource {
	rs := &resource{pattern: pattern}
	if !strings.Contains(pattern, "{") {
		if known := r.plain[pattern]; known != nil {
			return known
		}
		r.plain[pattern] = rs
		return rs
	}
	for _, known := range r.named {
		if known.pattern == pattern {
			return known
		}
	}
	rs.segments = strings.Split(pattern[1:], "/")
	r.named = append(r.named, rs)
	return rs
}

// find returns the resource of a path, nil if there is none. It does not
// allocate.
func (r *router) find(u *url.URL) *resource {
	// What is left out of RawPath is exactly what net/url would write itself: a
	// letter that was sent as an escape is in it.
	if u.RawPath != "" {
		return nil
	}
	if rs := r.plain[u.Path]; rs != nil {
		return rs
	}
	for _, rs := range r.named {
		if rs.matches(u.Path) {
			return rs
		}
	}
	return nil
}

func (rs *resource) matches(path string) bool {
	for _, want := range rs.segments {
		if path == "" || path[0] != '/' {
			return false
		}
		path = path[1:]
		got := path
		if i := strings.IndexByte(path, '/'); i >= 0 {
			got = path[:i]
		}
		path = path[len(got):]
		if got != want && (want[0] != '{' || !plainSegment(got)) {
			return false
		}
	}
	return path == ""
}

// plainSegment says whether s can stand for a {name}: whatever reads the path
// after us cannot take it for anything but one segment.
func plainSegment(s string) bool {
	if s == "" || s == "." || s == ".." || len(s) > maxSegment {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}
