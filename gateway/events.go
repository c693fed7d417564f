package gateway

import (
	"context"
	"net/http"
)

// serveEvents serves GET /v1/me/events, which does not end by itself: it ends when
// the gateway drains, so that clients go on elsewhere.
func (g *Gateway) serveEvents(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(g.serving, cancel)()
	r.Header.Del("Accept-Encoding") // what is compressed is held back
	g.up.Streams.ServeHTTP(w, r.WithContext(ctx))
}
