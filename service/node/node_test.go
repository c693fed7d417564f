package node

import "testing"

func TestKeysAreThoseOfTheFirstUserServiceUnlessToldOtherwise(t *testing.T) {
	for want, k := range map[string]Keys{
		"http://a:1/.well-known/jwks.json": {UserURL: "http://a:1/, http://b:2"},
		"https://id.example/keys":          {UserURL: "http://a:1", JWKSURL: "https://id.example/keys"},
	} {
		if got := k.url(); got != want {
			t.Errorf("%+v: %s, want %s", k, got, want)
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
