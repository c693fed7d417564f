package events

import (
	"encoding/json"
	"fmt"
)

// upcast makes the next version of an event type out of one that is written no
// more.
type upcast struct {
	from, to string
	data     func([]byte) ([]byte, error)
}

// superseded is sorted by type. Each leads to the next version, and so in the end
// to one of the catalogue. The golden files of a type's old versions stay, with
// what becomes of them beside.
var superseded = []upcast{
	{"fraud.rule_defined.v1", RuleDefined, ruleDefinedV2},
}

// IsSuperseded says whether a type is an old version of another. What reads a
// commit sees the new one instead; an event that is still of such a type could not
// be read.
func IsSuperseded(eventType string) bool {
	_, ok := nextVersion(eventType)
	return ok
}

func nextVersion(eventType string) (upcast, bool) {
	for _, u := range superseded {
		if u.from == eventType {
			return u, true
		}
	}
	return upcast{}, false
}

// Upcast returns the event in the current version of its type: itself, if that is
// what it is, or if the type is none that this build knows. The error says that
// its data is not what its version lays down; the event is then unchanged.
// Whatever reads commits gets its events upcast already.
func Upcast(e Recorded) (Recorded, error) {
	up := e
	for {
		u, ok := nextVersion(up.Type)
		if !ok {
			return up, nil
		}
		data, err := u.data(up.Data)
		if err != nil {
			return e, fmt.Errorf("read %s %s at %d/%d as %s: %w", e.Type, e.ID, e.Partition, e.Sequence, u.to, err)
		}
		up.Type, up.Data = u.to, data
	}
}

// ruleDefinedV2 adds why. Before it was asked for, rules came from the rule book
// alone.
func ruleDefinedV2(data []byte) ([]byte, error) {
	var v2 RuleDefinition
	if err := json.Unmarshal(data, &v2); err != nil {
		return nil, err
	}
	v2.Why = "it is in the rule book"
	return json.Marshal(v2)
}
