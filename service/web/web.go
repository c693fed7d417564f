// Package web is the HTTP edge that all services share.
//
// Its promises:
//   - every error leaves as a problem (package problem), unknown paths, unknown
//     methods and panics among them; an error is logged once, here, if it is
//     ours (5xx), and not at all if it is the client's (4xx);
//   - a handler that fails after it began to answer has its connection cut, so
//     that half an answer is never taken for a whole one;
//   - every response carries X-Request-Id: the client's own if well formed, else
//     a new one;
//   - no body is larger than its limit, nor read for longer than [BodyTimeout];
//   - a request whose caller waits no longer ([TimeoutHeader]) has its context ended;
//   - what [Bind] and [DecodeStrict] accept is exactly one JSON value with no
//     unknown, repeated or mistyped fields; what they refuse names every such
//     field at once, with its path;
//   - requests are measured by route template, never by path.
package web

import (
	"log/slog"
	"net"
	"net/netip"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/service/metrics"
)

// Options of [New]. The zero value is safe: it logs nowhere, measures nothing
// and trusts no proxy.
type Options struct {
	// Service names the service in metrics, as in "activity".
	Service string
	// Logger gets one record for each request that failed on our side.
	Logger *slog.Logger
	// Metrics, if set, gets the request histogram. Several services of one
	// process may share it.
	Metrics prometheus.Registerer
	// BodyLimit is in bytes; 0 means [DefaultBodyLimit]. A route may set its own
	// with [BodyLimit].
	BodyLimit int64
	// TrustedProxies are the networks whose X-Forwarded-For is believed. With
	// none, a client's address is that of its connection.
	TrustedProxies []netip.Prefix
}

// New makes the router that a service puts its routes on.
func New(o Options) *echo.Echo {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.BodyLimit == 0 {
		o.BodyLimit = DefaultBodyLimit
	}
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.StdLogger = slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn)
	e.IPExtractor = ipExtractor(o.TrustedProxies)

	at := edge{log: o.Logger}
	if o.Metrics != nil {
		at.requests = metrics.NewRequests(o.Metrics, o.Service)
	}
	e.HTTPErrorHandler = at.fail
	e.Use(at.middleware, deadline, limitBody(o.BodyLimit))
	return e
}

func ipExtractor(trusted []netip.Prefix) echo.IPExtractor {
	if len(trusted) == 0 {
		return echo.ExtractIPDirect()
	}
	// Without these three, echo trusts every private address.
	options := []echo.TrustOption{
		echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false),
	}
	for _, p := range trusted {
		p = p.Masked()
		options = append(options, echo.TrustIPRange(&net.IPNet{
			IP:   p.Addr().AsSlice(),
			Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
		}))
	}
	return echo.ExtractIPFromXFFHeader(options...)
}
