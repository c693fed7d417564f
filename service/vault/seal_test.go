package vault_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"

	"github.com/meet5/backend/service/vault"
)

// sealedBefore is "what is said" as this and every earlier build has sealed it: logs
// are full of it.
const sealedBefore = "746865206e6f6e636520697313c0fadf530eb39c2add878d2dcc5a57ae0d98fe37a1b56dfb71cb66"

func TestWhatWasSealedBeforeIsOpenedForEver(t *testing.T) {
	key := vault.Key([]byte("a key of thirty-two bytes, once."))
	sealed, err := key.Seal(bytes.NewReader([]byte("the nonce is")), []byte("what is said"), []byte("of whom"))
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(sealed); got != sealedBefore {
		t.Errorf("sealed as %s, want %s", got, sealedBefore)
	}
	before, err := hex.DecodeString(sealedBefore)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := key.Unseal(before, []byte("of whom")); err != nil || string(plain) != "what is said" {
		t.Errorf("opened as %q, %v", plain, err)
	}
}

func TestASealOpensOnlyWholeForItsKeyAndWhatItIsBoundTo(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		key := vault.Key(rapid.SliceOfN(rapid.Byte(), len(vault.Key{}), len(vault.Key{})).Draw(rt, "key"))
		plain, bound := rapid.SliceOf(rapid.Byte()).Draw(rt, "plain"), rapid.SliceOf(rapid.Byte()).Draw(rt, "bound to")
		nonce := rapid.SliceOfN(rapid.Byte(), 12, 12).Draw(rt, "nonce")
		sealed, err := key.Seal(bytes.NewReader(nonce), plain, bound)
		if err != nil {
			rt.Fatal(err)
		}
		if got, err := key.Unseal(sealed, bound); err != nil || !bytes.Equal(got, plain) {
			rt.Fatalf("opened as %x, %v", got, err)
		}
		other, harmed := key, bytes.Clone(sealed)
		other[rapid.IntRange(0, len(other)-1).Draw(rt, "byte of the key")]++
		harmed[rapid.IntRange(0, len(harmed)-1).Draw(rt, "byte of the seal")]++
		cut := sealed[:rapid.IntRange(0, len(sealed)-1).Draw(rt, "cut at")]
		for what, try := range map[string]func() ([]byte, error){
			"another key":           func() ([]byte, error) { return other.Unseal(sealed, bound) },
			"bound to another":      func() ([]byte, error) { return key.Unseal(sealed, append(bytes.Clone(bound), 0)) },
			"a byte is another one": func() ([]byte, error) { return key.Unseal(harmed, bound) },
			"it is cut off":         func() ([]byte, error) { return key.Unseal(cut, bound) },
		} {
			if got, err := try(); err == nil {
				rt.Fatalf("%s: opened as %x", what, got)
			}
		}
	})
	if _, err := (vault.Key{}).Seal(bytes.NewReader(nil), nil, nil); err == nil {
		t.Error("sealed without a nonce")
	}
}
