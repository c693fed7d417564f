package versions_test

import (
	"context"
	"iter"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// blockedLog is a log whose reads do not come to an end before their context.
type blockedLog struct {
	*log.Log
	begun func()
}

func (b *blockedLog) Read(ctx context.Context, _ int, _ uint64) iter.Seq2[events.Commit, error] {
	return func(yield func(events.Commit, error) bool) {
		b.begun()
		<-ctx.Done()
		yield(events.Commit{}, ctx.Err())
	}
}

// eventually waits for a condition.
func (w *world) eventually(is func() bool) {
	w.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !is() {
		select {
		case <-again.C:
		case <-w.ctx.Done():
			w.Fatal("it never comes true")
		}
	}
}
