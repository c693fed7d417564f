package rabbit

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"
)

// maxName is the longest name that AMQP can express, in bytes.
const maxName = 255

// route is where a topic's messages go.
type route struct {
	exchange, key string
}

// route maps a topic and refuses what AMQP would take for something else.
func (c *Config) route(topic string) (route, error) {
	exchange, key := c.Topology(topic)
	r := route{exchange: exchange, key: key}
	switch {
	case topic == "":
		return r, fmt.Errorf("topic is empty")
	case exchange == "" || len(exchange) > maxName:
		return r, fmt.Errorf("topic %q: its exchange must have 1 to %d bytes, has %d", topic, maxName, len(exchange))
	case len(key) > maxName:
		return r, fmt.Errorf("topic %q: its routing key has %d bytes, at most %d are allowed", topic, len(key), maxName)
	case strings.ContainsAny(key, "*#"):
		return r, fmt.Errorf("topic %q: its routing key contains * or #, which are wildcards", topic)
	}
	return r, nil
}

// queueName names the queue of a group, or a fresh one of a lone subscription:
// after a cut the broker may still hold the old one for the old connection.
func (c *Config) queueName(r route) (string, error) {
	group := c.Group
	if group == "" {
		group = "~" + uuid.NewString()
	}
	name := r.exchange + "." + r.key + "." + group
	if len(name) > maxName {
		return "", fmt.Errorf("queue name %q has %d bytes, at most %d are allowed", name, len(name), maxName)
	}
	return name, nil
}

func declareExchange(ch *amqp.Channel, r route) error {
	const durable = true
	if err := ch.ExchangeDeclare(r.exchange, amqp.ExchangeTopic, durable, false, false, false, nil); err != nil {
		return fmt.Errorf("declare exchange %s: %w", r.exchange, otherArguments(err, "rabbitmqadmin exchanges delete --name "+r.exchange))
	}
	return nil
}

// declareQueue declares the route's exchange and the queue, and binds them.
func (c *Config) declareQueue(ch *amqp.Channel, r route) (string, error) {
	if err := declareExchange(ch, r); err != nil {
		return "", err
	}
	name, err := c.queueName(r)
	if err != nil {
		return "", err
	}
	args := amqp.Table{
		amqp.QueueMaxLenArg:      int64(c.MaxLength),
		amqp.QueueMaxLenBytesArg: int64(c.MaxLengthBytes),
		amqp.QueueOverflowArg:    amqp.QueueOverflowDropHead,
	}
	if c.Group != "" {
		args[amqp.QueueTypeArg] = amqp.QueueTypeQuorum
		args[amqp.SingleActiveConsumerArg] = true
		args["x-delivery-limit"] = int64(c.DeliveryLimit)
		_, err = ch.QueueDeclare(name, true, false, false, false, args)
	} else {
		args[amqp.QueueTypeArg] = amqp.QueueTypeClassic
		_, err = ch.QueueDeclare(name, false, true, true, false, args)
	}
	if err != nil {
		return "", fmt.Errorf("declare queue %s: %w", name, otherArguments(err, "rabbitmqctl delete_queue "+name))
	}
	if err := ch.QueueBind(name, r.key, r.exchange, false, nil); err != nil {
		return "", fmt.Errorf("bind queue %s: %w", name, err)
	}
	return name, nil
}

// otherArguments explains a refused declaration; the broker's own words say which
// argument differs.
func otherArguments(err error, remedy string) error {
	refused, ok := errors.AsType[*amqp.Error](err)
	if !ok || refused.Code != amqp.PreconditionFailed {
		return err
	}
	return fmt.Errorf("%w: %w: delete it while nobody needs it (%s, with --vhost where it has one), since what it holds is in the log, or choose another prefix",
		ErrOtherArguments, err, remedy)
}
