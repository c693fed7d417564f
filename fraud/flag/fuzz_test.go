package flag

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// FuzzReadRaised: no payload harms the short way of reading a flag, and what this
// build or another writes of a flag is read the same by it as by encoding/json.
func FuzzReadRaised(f *testing.F) {
	f.Add([]byte(`{"user":"7b2e3f0a-52a1-4a55-8f77-0d3ae1f3a9a0","rule":"r","evidence":[{"event_id":"x"}]}`), "rule", 100.0, 3)
	f.Add([]byte(`,"evidence":[`), `,"evidence":[{"event_id":`, -1e300, 0)
	f.Add([]byte(`{"rule":{"a":1,"evidence":[{"event_id":1}]}}`), "\"\\\u2028", 0.5, 1)
	f.Fuzz(func(t *testing.T, data []byte, rule string, observed float64, n int) {
		_, evidence, _ := readRaised(events.Recorded{Event: events.Event{Data: data}})
		if evidence < 0 || evidence > len(data) {
			t.Fatalf("%q has %d pieces of evidence", data, evidence)
		}
		written := events.Flag{User: uuid.UUID{1}, Rule: rule, RuleVersion: rule, Observed: observed, Threshold: observed}
		if n%2 == 1 {
			end := time.Unix(int64(n%1000), 0).UTC()
			written.ExpiresAt = &end
		}
		for range min(max(n, 0), 20) {
			written.Evidence = append(written.Evidence, events.Evidence{EventID: uuid.UUID{2}, Type: rule, OccurredAt: time.Unix(1, 0)})
		}
		text, err := json.Marshal(written)
		if err != nil {
			return // not a number that JSON has
		}
		var want events.Flag
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		got, evidence, err := readRaised(events.Recorded{Event: events.Event{Data: text}})
		if err != nil || evidence != len(want.Evidence) || got.Rule != want.Rule || got.User != want.User || got.Observed != want.Observed || got.RuleVersion != want.RuleVersion ||
			(got.ExpiresAt == nil) != (want.ExpiresAt == nil) || got.ExpiresAt != nil && !got.ExpiresAt.Equal(*want.ExpiresAt) {
			t.Fatalf("%s is read as %+v with %d pieces of evidence (%v)", text, got, evidence, err)
		}
	})
}
