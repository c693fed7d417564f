package events_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/meet5/backend/events"
)

// oldVersions are the types that have golden files and are in the catalogue no
// more: every version that was ever released keeps its file.
func oldVersions(t *testing.T) (types []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "*.v*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".json")
		if _, known := events.Known(name); !known && !strings.HasSuffix(name, ".upcast") {
			types = append(types, name)
		}
	}
	return types
}

func TestEveryOldVersionIsReadAsTheCurrentOne(t *testing.T) {
	old := oldVersions(t)
	if len(old) == 0 {
		t.Fatal("there is no old version, and there is code for them")
	}
	for _, name := range old {
		t.Run(name, func(t *testing.T) {
			if !events.IsSuperseded(name) {
				t.Fatal("it has a golden file but no upcast: what was written can be read no more")
			}
			golden := func(name string) []byte {
				b, err := os.ReadFile(filepath.Join("testdata", "golden", name+".json"))
				if errors.Is(err, os.ErrNotExist) && *update {
					return nil
				}
				if err != nil {
					t.Fatal(err)
				}
				return bytes.TrimSpace(b)
			}
			stored := events.Recorded{Event: events.Event{ID: id(1), Type: name, Stream: id(2), Version: 3, OccurredAt: at, Data: golden(name)}}
			up, err := events.Upcast(stored)
			if err != nil {
				t.Fatal(err)
			}
			if _, known := events.Known(up.Type); !known {
				t.Fatalf("it ends as %s, which is not in the catalogue", up.Type)
			}
			want := golden(name + ".upcast")
			if want == nil {
				if err := os.WriteFile(filepath.Join("testdata", "golden", name+".upcast.json"), append(up.Data, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
				want = up.Data
			}
			if !bytes.Equal(up.Data, want) {
				t.Errorf("became %s\nwant   %s", up.Data, want)
			}
			up.Type, up.Data = stored.Type, stored.Data
			if up.ID != stored.ID || up.Stream != stored.Stream || up.Version != stored.Version || !up.OccurredAt.Equal(stored.OccurredAt) {
				t.Errorf("the envelope changed: %+v", up)
			}
		})
	}
}

func TestACommitIsReadInTheCurrentVersionsAndKeepsItsBytes(t *testing.T) {
	evs := []events.Event{
		{ID: id(1), Type: "fraud.rule_defined.v1", Stream: id(9), Version: 1, OccurredAt: at, Data: []byte(`{"rule":"r","version":"1","mode":"live","spec":{"b":1,"a":2},"by":"rulebook"}`)},
		{ID: id(2), Type: "later.thing.v9", Stream: id(9), OccurredAt: at, Data: []byte{0xff}},
		{ID: id(3), Type: "fraud.rule_defined.v1", Stream: id(9), Version: 2, OccurredAt: at, Data: []byte(`not JSON`)},
	}
	c, err := events.Encode(events.FraudLog, 0, 1, at, id(99), evs)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := events.Decode(c.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []events.Commit{c, decoded} {
		got := slices.Collect(c.Events())
		if len(got) != 3 {
			t.Fatalf("%d events, want 3", len(got))
		}
		r, err := events.Unmarshal[events.RuleDefinition](got[0])
		if err != nil || got[0].Type != events.RuleDefined || r.Why == "" || r.Rule != "r" || string(r.Spec) != `{"b":1,"a":2}` {
			t.Errorf("the old version is read as %s %s, %v", got[0].Type, got[0].Data, err)
		}
		if got[1].Type != "later.thing.v9" || !bytes.Equal(got[1].Data, []byte{0xff}) {
			t.Errorf("an unknown type is passed on as %s %x", got[1].Type, got[1].Data)
		}
		if got[2].Type != "fraud.rule_defined.v1" || string(got[2].Data) != "not JSON" || !events.IsSuperseded(got[2].Type) {
			t.Errorf("what cannot be read is passed on as %s %s", got[2].Type, got[2].Data)
		}
		if _, err := events.Upcast(got[2]); err == nil {
			t.Error("no error for data that is not what its version lays down")
		}
	}
	if !bytes.Equal(decoded.Bytes(), c.Bytes()) || !bytes.Contains(c.Bytes(), []byte("fraud.rule_defined.v1")) {
		t.Error("the stored bytes changed")
	}
}
