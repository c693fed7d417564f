package events_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// What people write of users is sealed since it is to be erased with them. Events of
// earlier builds, which have it in the clear, are the samples.
func TestTextsKeepTheirGoldenFormSealed(t *testing.T) {
	users := &events.SealedText{Key: id(2), Bytes: []byte{1, 2, 3}}
	shared := &events.SealedText{Key: id(13), Bytes: []byte{4, 5, 6}}
	for eventType, sample := range map[string]any{
		events.FlagAppealed:   events.Appeal{User: id(2), Sealed: users},
		events.FlagNoted:      events.Note{By: id(3), Sealed: users},
		events.FlagConfirmed:  events.Decision{User: id(2), Rule: "meet5-first-minutes", By: id(3), Sealed: users},
		events.DecisionUndone: events.UndoneDecision{User: id(2), Rule: "meet5-first-minutes", By: id(3), Sealed: users, Bulk: id(12), Undoes: "dismiss", Standpoint: events.Standpoint{State: "open"}},
		events.BulkDecided:    events.BulkDecision{By: id(3), Decision: "dismiss", Sealed: shared, Flags: []events.BulkFlag{{Flag: id(6), Version: 3, Before: events.Standpoint{State: "open"}}}, Refused: []events.BulkRefusal{}},
		events.BulkUndone:     events.BulkUndo{By: id(3), Sealed: shared, Flags: []uuid.UUID{id(6)}, Refused: []events.BulkRefusal{}},
	} {
		t.Run(eventType, func(t *testing.T) {
			got, err := json.Marshal(sample)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", "shapes", eventType+".sealed.json")
			want, err := os.ReadFile(path)
			if errors.Is(err, os.ErrNotExist) && *update {
				err, want = os.WriteFile(path, append(got, '\n'), 0o644), got
			}
			if err != nil {
				t.Fatal(err)
			}
			if want = bytes.TrimSpace(want); !bytes.Equal(got, want) {
				t.Fatalf("a released form changed\n got %s\nwant %s", got, want)
			}
			kind, _ := events.Known(eventType)
			back := kind.New()
			if err := json.Unmarshal(want, back); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(reflect.ValueOf(back).Elem().Interface(), sample) {
				t.Fatalf("read back %+v, want %+v", back, sample)
			}
		})
	}
}
