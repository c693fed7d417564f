package node

import (
	"slices"
	"testing"
)

func TestKeysAreThoseOfTheUserServicesUnlessToldOtherwise(t *testing.T) {
	for name, c := range map[string]struct {
		keys Keys
		want []string
	}{
		"user services": {Keys{UserURL: []string{"http://a:1/", " http://b:2"}}, []string{"http://a:1/.well-known/jwks.json", "http://b:2/.well-known/jwks.json"}},
		"told":          {Keys{UserURL: []string{"http://a:1"}, JWKSURL: []string{"https://id.example/keys"}}, []string{"https://id.example/keys"}},
	} {
		if got := c.keys.urls(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestEveryMissingFlagIsNamed(t *testing.T) {
	err := (&Flags{}).Validate()
	if err == nil || err.Error() != "--mongo or MEET5_MONGO is needed\n--amqp or MEET5_AMQP is needed" {
		t.Errorf("got %v", err)
	}
	if (&Keys{}).Validate() == nil {
		t.Error("keys from nowhere are accepted")
	}
}
