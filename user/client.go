package user

import (
	"net/http"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/vault"
)

// A session notes the network it was started from, not the address: enough to tell
// home from elsewhere.
const (
	networkBits4 = 24
	networkBits6 = 48
)

// clientOf is the address that a request comes from; invalid if nobody knows.
func clientOf(c echo.Context) netip.Addr {
	addr, err := netip.ParseAddr(c.RealIP())
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// network is the network that an address is in, empty if there is none.
func network(addr netip.Addr) string {
	bits := networkBits6
	if addr.Is4() {
		bits = networkBits4
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}

// agentOf is how the program that sent a request calls itself, without what could
// do something to the text around it.
func agentOf(r *http.Request) string {
	agent := strings.Map(func(c rune) rune {
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, r.UserAgent())
	for len(agent) > vault.MaxAgent {
		_, size := utf8.DecodeLastRuneInString(agent)
		agent = agent[:len(agent)-size]
	}
	return agent
}
