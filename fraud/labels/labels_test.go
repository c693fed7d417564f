package labels_test

import (
	"testing"

	"github.com/meet5/backend/fraud/labels"
)

func TestOnlyAValueThatSaysSomethingIsBad(t *testing.T) {
	for value, bad := range map[string]bool{
		"": false, " ": false, "0": false, "False": false, "no": false, "null": false,
		"1": true, "true": true, "banned": true, "yes": true, "0.5": true,
	} {
		if labels.Bad(value) != bad {
			t.Errorf("%q: %v, want %v", value, !bad, bad)
		}
	}
}
