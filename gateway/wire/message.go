package wire

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
)

const (
	// usualMessage is what most requests fit into, in bytes, and keptMessage the
	// largest buffer that is kept for the next one.
	usualMessage = 2 << 10
	keptMessage  = 16 << 10
)

// message is a request as it is sent.
type message struct{ bytes []byte }

var messages = sync.Pool{New: func() any { return &message{make([]byte, 0, usualMessage)} }}

func (m *message) free() {
	if cap(m.bytes) <= keptMessage {
		m.bytes = m.bytes[:0]
		messages.Put(m)
	}
}

// newMessage writes a request down, to be freed after use.
func newMessage(r *http.Request, host string, o Options) (*message, error) {
	target := r.URL.RequestURI()
	switch {
	case !httpguts.ValidHeaderFieldName(r.Method):
		return nil, fmt.Errorf("send a request: %q is no method", r.Method)
	case strings.ContainsFunc(target, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		return nil, errors.New("send a request: there is a blank or a control character in its target")
	case !httpguts.ValidHostHeader(host):
		return nil, fmt.Errorf("send a request: %q is no host", host)
	}
	m := messages.Get().(*message)
	b := m.bytes
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\n"...)
	length := r.ContentLength
	if r.Body == nil || r.Body == http.NoBody {
		length = 0
	}
	if length > 0 || r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, length, 10)
		b = append(b, "\r\n"...)
	}
	for name, values := range r.Header {
		if OfConnection(name) || name == "Content-Length" || name == "Host" || name == o.Name && name != "" {
			continue
		}
		var err error
		if b, err = appendField(b, name, values...); err != nil {
			return nil, err
		}
	}
	if o.Name != "" {
		var err error
		if b, err = appendField(b, o.Name, o.Value); err != nil {
			return nil, err
		}
	}
	b = append(b, "\r\n"...)
	if length > 0 {
		var err error
		if b, err = appendBody(b, r, int(length)); err != nil {
			return nil, err
		}
	}
	m.bytes = b
	return m, nil
}

func appendField(b []byte, name string, values ...string) ([]byte, error) {
	if !httpguts.ValidHeaderFieldName(name) {
		return nil, fmt.Errorf("send a request: %q is no name of a field", name)
	}
	for _, v := range values {
		if !httpguts.ValidHeaderFieldValue(v) { // it may be a secret
			return nil, fmt.Errorf("send a request: the value of %s is none", name)
		}
		b = append(b, name...)
		b = append(b, ": "...)
		b = append(b, textproto.TrimString(v)...)
		b = append(b, "\r\n"...)
	}
	return b, nil
}

// appendBody appends exactly what the head has promised.
func appendBody(b []byte, r *http.Request, length int) ([]byte, error) {
	body, err := r.GetBody()
	if err != nil {
		return nil, fmt.Errorf("send a request: %w", err)
	}
	defer body.Close()
	head := len(b)
	if need := head + length; need > cap(b) {
		b = append(make([]byte, 0, need), b...)
	}
	b = b[:head+length]
	if _, err := io.ReadFull(body, b[head:]); err != nil {
		return nil, fmt.Errorf("send a request: its body is shorter than it says: %w", err)
	}
	var more [1]byte
	if n, _ := io.ReadFull(body, more[:]); n > 0 {
		return nil, errors.New("send a request: its body is longer than it says")
	}
	return b, nil
}

// OfConnection says that a field of this canonical name is of a connection, and not of
// what goes over it (RFC 9110, 7.6.1).
func OfConnection(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}
