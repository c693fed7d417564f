package run

import (
	"net/http"
	"time"
)

// impatientStreams does for the streams of an HTTP/2 connection what impatient does
// for connections: a stream whose client gives it no room is reset. The connection
// is busy with others meanwhile, and never late itself.
func impatientStreams(next http.Handler, limit time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor < 2 {
			next.ServeHTTP(w, r)
			return
		}
		s := &impatientStream{ResponseWriter: w, control: http.NewResponseController(w), limit: limit}
		next.ServeHTTP(s, r)
		s.begin() // what is left is sent when we have returned
	})
}

type impatientStream struct {
	http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
}

// begin has the stream end unless end comes in time. A deadline that cannot be set is
// that of a stream which has ended.
func (s *impatientStream) begin() { _ = s.control.SetWriteDeadline(time.Now().Add(s.limit)) }

// end has the stream wait for its handler as long as that likes.
func (s *impatientStream) end() { _ = s.control.SetWriteDeadline(time.Time{}) }

// Write implements io.Writer.
func (s *impatientStream) Write(p []byte) (int, error) {
	s.begin()
	defer s.end()
	return s.ResponseWriter.Write(p)
}

// FlushError is what http.ResponseController flushes with.
func (s *impatientStream) FlushError() error {
	s.begin()
	defer s.end()
	return s.control.Flush()
}

// Flush implements http.Flusher.
func (s *impatientStream) Flush() { _ = s.FlushError() }

// Unwrap is for http.ResponseController.
func (s *impatientStream) Unwrap() http.ResponseWriter { return s.ResponseWriter }
