package gateway

import (
	"net/http"
	"strconv"
)

// tagged gives what a service publishes a tag by its content, so that whoever keeps
// it can ask whether it is still that. It is for small answers of JSON.
func tagged(to http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		has := r.Header["If-None-Match"]
		// The answer must be readable here, and the tag is not the service's.
		delete(r.Header, "If-None-Match")
		delete(r.Header, "Accept-Encoding")
		held := &holder{ResponseWriter: w}
		to.ServeHTTP(held, r)
		if !held.holding {
			return
		}
		h, tag := w.Header(), tagOf(held.body)
		h.Set("ETag", tag)
		if noneMatches(has, tag) {
			h.Del("Content-Length")
			h.Del("Content-Type")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Length", strconv.Itoa(len(held.body)))
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(held.body)
	})
}
