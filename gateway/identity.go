package gateway

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/meet5/backend/service/web"
)

const requestIDHeader = "X-Request-Id"

// stripIdentity drops what only a proxy of ours could know, or may say, and what a
// client says of the connection that it has with us.
func stripIdentity(h http.Header) {
	for name := range h {
		switch name {
		case "Forwarded", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip",
			"X-Original-Url", "X-Rewrite-Url", "X-Http-Method-Override", web.TimeoutHeader,
			"Te", "Trailer", "Expect", "Http2-Settings":
			delete(h, name)
		default:
			if strings.HasPrefix(name, "X-Forwarded") {
				delete(h, name)
			}
		}
	}
}

// identify gives the request an ID: the client's own if it is well formed, else a
// new one.
func identify(w http.ResponseWriter, r *http.Request) {
	id := r.Header[requestIDHeader]
	if len(id) != 1 || !wellFormedID(id[0]) {
		id = []string{newRequestID()}
		r.Header[requestIDHeader] = id
	}
	w.Header()[requestIDHeader] = id[:1:1]
}

func requestID(r *http.Request) string { return r.Header.Get(requestIDHeader) }

// newRequestID need only be unlikely to repeat: nothing is protected by it.
func newRequestID() string {
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(raw[8:], rand.Uint64())
	var text [32]byte
	hex.Encode(text[:], raw[:])
	return string(text[:])
}

// wellFormedID allows what the services allow, so that an ID stays the same all
// the way.
func wellFormedID(id string) bool {
	if id == "" || len(id) > web.MaxRequestID {
		return false
	}
	for i := range len(id) {
		b := id[i]
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		case b == '-', b == '_', b == '.', b == ':':
		default:
			return false
		}
	}
	return true
}

// clientAddr is where a request comes from: the connection's address or, behind
// proxies of ours, the last address that is none of theirs. It is invalid if
// nobody knows.
func (g *Gateway) clientAddr(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap().WithZone("")
	if !g.isProxy(addr) {
		return addr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		told, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			return addr
		}
		if addr = told.Unmap().WithZone(""); !g.isProxy(addr) {
			return addr
		}
	}
	return addr
}

func (g *Gateway) isProxy(addr netip.Addr) bool {
	for _, p := range g.trusted {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
