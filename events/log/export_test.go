package log

// Backoff is what a log waits by if Options say nothing else.
var Backoff = backoff

// Answered says whether Wait would return at once.
func (r *Pending) Answered() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}
