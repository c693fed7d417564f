package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// resolveEvery is how often names are looked up. Go tells nothing of a record's
	// TTL; this is shorter than usual ones.
	resolveEvery = 5 * time.Second
	// resolveLeast spaces the lookups that instances which refuse connections cause.
	resolveLeast = time.Second
	// resolveTimeout bounds one lookup.
	resolveTimeout = 2 * time.Second
	// keepUnanswered is how long the last good answer is used while DNS does not
	// answer: what is called is rather there than not.
	keepUnanswered = time.Hour
	// keepDenied is the same while DNS says that there is nothing of that name. It is
	// short, since addresses are given to others.
	keepDenied = 30 * time.Second
	// maxInstances bounds the instances of a service; further ones are left out.
	maxInstances = 256
)

// address is where an instance is.
type address struct {
	scheme string // http or https
	host   string // with port, if one is given
	// serverName is whose certificate it must show, where host is not that already.
	serverName string
}

// source is one way to find instances: fixed, or by a name in DNS. It is used by
// one goroutine.
type source struct {
	scheme string
	kind   string // "", dns or srv
	host   string
	port   string // of dns

	last   []address // the last good answer
	lastAt time.Time
}

// ParseUpstream reads where instances of a service are:
//
//	http://host:port       one instance
//	dns+http://host:port   one at each address of the host (A; AAAA if there is no A)
//	srv+http://name        one at each host and port of the name's SRV records
//
// or the same with https. Of SRV records, those of the best priority count, and
// weights do not.
func ParseUpstream(text string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return nil, err
	}
	if _, err := newSource(u); err != nil {
		return nil, err
	}
	return u, nil
}

func newSource(u *url.URL) (*source, error) {
	kind, scheme, named := strings.Cut(u.Scheme, "+")
	if !named {
		kind, scheme = "", u.Scheme
	}
	s := &source{scheme: scheme, kind: kind, host: u.Host}
	switch {
	case named && kind != "dns" && kind != "srv", scheme != "http" && scheme != "https", u.Hostname() == "",
		strings.Trim(u.Path, "/") != "", u.RawQuery != "", u.Fragment != "", u.User != nil:
		return nil, fmt.Errorf("%q must be such as http://user:8080, dns+http://user:8080 or srv+http://_http._tcp.user", u.Redacted())
	case kind == "srv" && u.Port() != "":
		return nil, fmt.Errorf("%q must have no port: SRV records say it", u.Redacted())
	case kind == "dns":
		if s.host, s.port = u.Hostname(), u.Port(); s.port == "" {
			return nil, fmt.Errorf("%q must say the port: addresses have none", u.Redacted())
		}
	}
	return s, nil
}

// ResolverAt is a resolver that asks the DNS server at host:port, whatever the
// system is set to.
func ResolverAt(server string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: resolveTimeout}
		return d.DialContext(ctx, network, server)
	}}
}

// find says where instances are. With an error, what it returns is the last good
// answer, if that is still good enough.
func (s *source) find(ctx context.Context, r *net.Resolver, now time.Time) ([]address, error) {
	if s.kind == "" {
		return []address{{scheme: s.scheme, host: s.host}}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	look := s.byAddress
	if s.kind == "srv" {
		look = s.byService
	}
	found, err := look(ctx, r)
	if err == nil {
		s.last, s.lastAt = found, now
		return found, nil
	}
	keep := keepUnanswered
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		keep = keepDenied
	}
	if now.Sub(s.lastAt) > keep {
		s.last = nil
	}
	return s.last, fmt.Errorf("look up %s: %w", s.host, err)
}

func (s *source) byAddress(ctx context.Context, r *net.Resolver) ([]address, error) {
	// Not both at once: a host with both would count twice.
	ips, err := r.LookupNetIP(ctx, "ip4", s.host)
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		ips, err = r.LookupNetIP(ctx, "ip6", s.host)
	}
	if err != nil {
		return nil, err
	}
	found := make([]address, 0, len(ips))
	for _, ip := range ips {
		found = append(found, address{scheme: s.scheme, host: hostPort(ip, s.port), serverName: s.host})
	}
	return found, nil
}

func hostPort(ip netip.Addr, port string) string { return net.JoinHostPort(ip.Unmap().String(), port) }

func (s *source) byService(ctx context.Context, r *net.Resolver) ([]address, error) {
	_, records, err := r.LookupSRV(ctx, "", "", s.host)
	if err != nil {
		return nil, err
	}
	found := make([]address, 0, len(records))
	for _, rec := range records { // by priority
		host := strings.TrimSuffix(rec.Target, ".")
		if rec.Priority != records[0].Priority || host == "" || rec.Port == 0 {
			continue
		}
		found = append(found, address{scheme: s.scheme, host: net.JoinHostPort(host, strconv.Itoa(int(rec.Port)))})
	}
	if len(found) == 0 { // RFC 2782: a target "." says that there is no such service
		return nil, &net.DNSError{Err: "no SRV record with a target", Name: s.host, IsNotFound: true}
	}
	return found, nil
}

// union sorts addresses and drops those that come again.
func union(all []address) []address {
	slices.SortFunc(all, func(a, b address) int {
		return cmp.Or(cmp.Compare(a.host, b.host), cmp.Compare(a.scheme, b.scheme), cmp.Compare(a.serverName, b.serverName))
	})
	return slices.CompactFunc(all, func(a, b address) bool { return a.host == b.host && a.scheme == b.scheme })
}
