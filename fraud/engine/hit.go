package engine

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

const (
	// MaxEvidence is how many events a flag holds, so that it stays below
	// events.MaxData. A hit that rests on more shows the latest of them.
	MaxEvidence = 1000
	// MaxOthersEvidence is the same of an ordered rule, whose flags say of each event who
	// did it.
	MaxOthersEvidence = 900
)

// space is the namespace of flags' IDs.
var space = uuid.MustParse("0b1e4c5a-6f2d-5c1b-9a57-3d0e8f6a2c41")

// Hit is a rule's threshold reached by one user.
type Hit struct {
	Rule *Rule
	User uuid.UUID
	// At is the rule time of the event that reached it, and Position its place.
	At       time.Time
	Position events.Position
	// Observed is what the aggregate has come to.
	Observed int
	// Evidence is where the events are that the aggregate rests on, in the order in
	// which they happened.
	Evidence []events.Position
}

// Shown is the part of the evidence that the flag will hold.
func (h Hit) Shown() []events.Position {
	most := MaxEvidence
	if h.Rule.Ordered() {
		most = MaxOthersEvidence
	}
	return h.Evidence[max(0, len(h.Evidence)-most):]
}

// Flag makes the event that raises the hit's flag, given the events that Shown
// names, in order. It is the flag's first. Its ID and stream, and every byte of
// its payload, follow from the rule's version, the user and those events.
func (h Hit) Flag(shown []events.Recorded) (events.Event, error) {
	if len(shown) != len(h.Shown()) {
		return events.Event{}, fmt.Errorf("flag of %s by %s: %d events of evidence, want %d", h.User, h.Rule.ID, len(shown), len(h.Shown()))
	}
	flag := events.Flag{
		User: h.User, Rule: h.Rule.ID, RuleVersion: h.Rule.Version, Score: h.Rule.Score,
		Observed: float64(h.Observed), Threshold: float64(h.Rule.Threshold),
		Evidence: make([]events.Evidence, len(shown)),
	}
	if ttl := time.Duration(h.Rule.TimeToLive); ttl > 0 {
		expires := h.At.Add(ttl)
		flag.ExpiresAt = &expires
	}
	var name strings.Builder
	name.WriteString(h.Rule.ID + "|" + h.Rule.Version + "|" + h.User.String())
	for i, e := range shown {
		if e.Position != h.Shown()[i] {
			return events.Event{}, fmt.Errorf("flag of %s by %s: evidence %d is event %v, want %v", h.User, h.Rule.ID, i, e.Position, h.Shown()[i])
		}
		a, err := events.ParseActivity(e.Data)
		if err != nil {
			return events.Event{}, fmt.Errorf("flag of %s by %s: evidence %s: %w", h.User, h.Rule.ID, e.ID, err)
		}
		flag.Evidence[i] = events.Evidence{
			EventID: e.ID, Type: e.Type, Target: a.Target, OccurredAt: e.OccurredAt, Position: e.Position,
		}
		if e.Stream != h.User {
			flag.Evidence[i].Actor = e.Stream
		}
		name.WriteString("|" + e.ID.String())
	}
	data, err := json.Marshal(flag)
	if err != nil {
		return events.Event{}, fmt.Errorf("flag of %s by %s: %w", h.User, h.Rule.ID, err)
	}
	id := events.DeriveID(space, name.String())
	return events.Event{
		ID: events.DeriveID(id, "raised"), Type: events.FlagRaised, Stream: id, Version: 1,
		OccurredAt: h.At, Data: data,
	}, nil
}
