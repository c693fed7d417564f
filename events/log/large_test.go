package log_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// TestAnEventOverTheBoundIsRefusedWithItsSize: before it is queued, and alone.
func TestAnEventOverTheBoundIsRefusedWithItsSize(t *testing.T) {
	l := log.New(&memory{keys: map[string]uint64{}}, log.Options{})
	defer l.Close()
	large := visit(1)
	large.Data = make([]byte, events.MaxData+1)
	_, err := l.Submit(visit(2), large)
	want := fmt.Sprintf("event %s: data has %d bytes, at most %d are allowed", large.ID, events.MaxData+1, 256<<10)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	large.Data = large.Data[:events.MaxData]
	if at, err := l.Append(t.Context(), large); err != nil || at[0].Sequence != 1 {
		t.Errorf("an event of the largest size: %v %v", at, err)
	}
}
