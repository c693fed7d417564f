package rabbit

import (
	"fmt"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// metadataPrefix marks the headers that are Watermill metadata. All other
	// headers (x-death, x-delivery-count, a tracer's) are the broker's business
	// and may be of any type.
	metadataPrefix = "m-"
	// maxMetadata bounds the metadata of one message, keys and values, in bytes:
	// the headers must fit into one frame.
	maxMetadata = 64 << 10
	// maxPayload is RabbitMQ's own limit; beyond it the broker closes the channel.
	maxPayload = 16 << 20
)

// check refuses what the broker would answer by closing the connection, and so
// with the failure of every other message on it.
func check(m *message.Message) error {
	if len(m.UUID) > maxName {
		return fmt.Errorf("message UUID has %d bytes, at most %d are allowed", len(m.UUID), maxName)
	}
	if len(m.Payload) > maxPayload {
		return fmt.Errorf("message %s: payload has %d bytes, at most %d are allowed", m.UUID, len(m.Payload), maxPayload)
	}
	size := 0
	for k, v := range m.Metadata {
		if len(k) > maxName-len(metadataPrefix) {
			return fmt.Errorf("message %s: a metadata key has %d bytes, at most %d are allowed", m.UUID, len(k), maxName-len(metadataPrefix))
		}
		size += len(k) + len(v)
	}
	if size > maxMetadata {
		return fmt.Errorf("message %s: metadata has %d bytes, at most %d are allowed", m.UUID, size, maxMetadata)
	}
	return nil
}

// publishing is the message on the wire.
func publishing(m *message.Message) amqp.Publishing {
	p := amqp.Publishing{
		MessageId:    m.UUID,
		DeliveryMode: amqp.Persistent,
		Body:         m.Payload,
	}
	if len(m.Metadata) > 0 {
		p.Headers = make(amqp.Table, len(m.Metadata))
		for k, v := range m.Metadata {
			p.Headers[metadataPrefix+k] = v
		}
	}
	return p
}

// received is the message that a delivery carries.
func received(d *amqp.Delivery) *message.Message {
	m := message.NewMessage(d.MessageId, d.Body)
	for k, v := range d.Headers {
		if name, ok := strings.CutPrefix(k, metadataPrefix); ok {
			if s, ok := v.(string); ok {
				m.Metadata[name] = s
			}
		}
	}
	return m
}
