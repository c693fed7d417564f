package rabbit

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
)

// FuzzReceived: no headers that a broker or another program sets, of whatever
// type, harm a message, and none of them passes for metadata.
func FuzzReceived(f *testing.F) {
	f.Add("id", "m-name", "value", "x-death", int64(3), []byte("payload"))
	f.Add("", "m-", "", "m-count", int64(-1), []byte{})
	f.Add("\x00", "traceparent", "00-", "m-\xff", int64(1)<<62, []byte("M5C\x01"))
	f.Fuzz(func(t *testing.T, id, name, value, other string, number int64, body []byte) {
		d := amqp.Delivery{MessageId: id, Body: body, Headers: amqp.Table{
			name: value, other: number,
			"m-table": amqp.Table{name: number}, "m-list": []any{value, number, nil}, "m-bytes": body, "m-nothing": nil,
		}}
		m := received(&d)
		if m.UUID != id || string(m.Payload) != string(body) {
			t.Fatalf("%q %q came as %q %q", id, body, m.UUID, m.Payload)
		}
		for k, v := range m.Metadata {
			if metadataPrefix+k != name || v != value {
				t.Fatalf("metadata %q: %q", k, v)
			}
		}
		// What passes the check arrives as it was sent.
		m.Metadata[name] = value
		if check(m) != nil {
			return
		}
		p := publishing(m)
		if err := p.Headers.Validate(); err != nil {
			t.Fatalf("headers of %q: %v", m.Metadata, err)
		}
		again := received(&amqp.Delivery{MessageId: p.MessageId, Body: p.Body, Headers: p.Headers})
		if !same(again, m) {
			t.Fatalf("%v came as %v", m, again)
		}
	})
}

func same(a, b *message.Message) bool { return a.Equals(b) }
