package web

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"github.com/labstack/echo/v4"
)

// MaxRequestID is the length, in bytes, up to which a client's own request ID is
// taken over. A longer or odd one is replaced.
const MaxRequestID = 64

// RequestID is the ID under which this request is in our logs.
func RequestID(c echo.Context) string {
	return c.Response().Header().Get(echo.HeaderXRequestID)
}

// identify gives the request an ID, in the response for the client and in the
// request for whatever it is forwarded to.
func identify(c echo.Context) {
	id := c.Request().Header.Get(echo.HeaderXRequestID)
	if !wellFormedID(id) {
		id = newRequestID()
		c.Request().Header.Set(echo.HeaderXRequestID, id)
	}
	c.Response().Header().Set(echo.HeaderXRequestID, id)
}

// newRequestID need only be unlikely to repeat: nothing is protected by it.
func newRequestID() string {
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(raw[8:], rand.Uint64())
	var text [32]byte
	hex.Encode(text[:], raw[:])
	return string(text[:])
}

// wellFormedID allows what common tracers send, and nothing that could forge a
// line in a log or a header.
func wellFormedID(id string) bool {
	if id == "" || len(id) > MaxRequestID {
		return false
	}
	for i := range len(id) {
		b := id[i]
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		case b == '-', b == '_', b == '.', b == ':':
		default:
			return false
		}
	}
	return true
}
