package web

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/meet5/backend/service/problem"
)

const (
	// maxCursor bounds, in bytes, a cursor that a client sends. Ours hold a
	// position or two.
	maxCursor = 1 << 10
	// cursorSum is how many bytes of SHA-256 guard a cursor against damage and
	// against use with another listing.
	cursorSum = 9
)

// EncodeCursor makes an opaque cursor that holds v, for one listing only: kind
// names it together with whatever scopes it, as in "visitors/" + userID. It
// panics if v cannot be marshalled, which only a programming error can cause.
//
// A cursor is checked, not secret and not signed: it says where a listing goes
// on, and must never decide what a caller may see.
func EncodeCursor(kind string, v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Errorf("encode a cursor of %s: %w", kind, err))
	}
	raw := append(checksum(kind, data), data...)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// DecodeCursor fills v, a pointer, from a cursor that EncodeCursor made for the
// same kind. Any other cursor is a 422 that names the field cursor.
func DecodeCursor(kind, cursor string, v any) error {
	if len(cursor) > maxCursor {
		return badCursor(errors.New("too long"))
	}
	// The decoder skips line breaks: one cursor would have many spellings.
	if strings.ContainsAny(cursor, "\r\n") {
		return badCursor(errors.New("a line break"))
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return badCursor(err)
	}
	if len(raw) < cursorSum {
		return badCursor(errors.New("too short"))
	}
	sum, data := raw[:cursorSum], raw[cursorSum:]
	if string(sum) != string(checksum(kind, data)) {
		return badCursor(errors.New("checksum differs"))
	}
	if err := DecodeStrict(data, v); err != nil {
		// Made by another version of this listing.
		return badCursor(errors.New("does not fit this listing"))
	}
	return nil
}

func badCursor(cause error) error {
	return fmt.Errorf("decode cursor: %w: %w", cause, problem.Invalid(
		problem.Field("cursor", "is not a cursor of this listing; start again without one")))
}

func checksum(kind string, data []byte) []byte {
	h := sha256.New()
	writeSized(h, kind)
	writeSized(h, string(data))
	return h.Sum(nil)[:cursorSum:cursorSum]
}

// writeSized keeps "a"+"bc" apart from "ab"+"c".
func writeSized(h hash.Hash, s string) {
	fmt.Fprintf(h, "%d:", len(s))
	_, _ = io.WriteString(h, s)
}
