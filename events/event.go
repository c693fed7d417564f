// Package events holds the contracts between the services: the envelope that
// every event travels in, the commit that a log stores and the bus carries, and
// the catalogue of event types with their payloads.
//
// It promises that
//   - an event type's name and its encoded form never change once released: a
//     new shape is a new version of the type (testdata/golden holds one file a
//     type, and a test fails when one of them moves);
//   - a commit is encoded once, by the log's writer; the same bytes are stored,
//     sent over the bus and replayed, and they carry their own checksum;
//   - decoding never trusts its input: bytes that are not a whole, unharmed
//     commit give an error that says where, never a panic;
//   - a type that this build does not know is carried and exported unchanged.
//
// It needs the standard library and google/uuid, nothing else.
package events

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// MaxData is the largest encoded payload of one event, in bytes.
const MaxData = 256 << 10

// MaxClaims is the largest number of claims that one event may take.
const MaxClaims = 16

// Event is one thing that happened, as its writer hands it to a log.
type Event struct {
	// ID is unique within its partition; appending it again writes nothing.
	ID uuid.UUID
	// Type is a name of the catalogue, such as "activity.profile_visited.v1".
	Type string
	// Stream is what the event is about: the actor of an activity, a user, a
	// flag. Events of one stream share a partition and keep their order.
	Stream uuid.UUID
	// Version is the event's place in its stream, from 1 on, if the stream is
	// versioned: the append fails with a conflict unless the stream stands at
	// Version-1. Zero says that the stream is not versioned.
	Version uint64
	// OccurredAt is when it happened by its source's clock, in UTC, to the
	// microsecond.
	OccurredAt time.Time
	// Claims are names (an e-mail's digest, a handle) that this event takes.
	// A claim is held once within a partition.
	Claims []string
	// Data is the payload, JSON as its type in the catalogue lays down.
	Data []byte
}

// Position is an event's place in a log.
type Position struct {
	Partition int    `json:"partition"`
	Sequence  uint64 `json:"sequence"`
}

// Recorded is an event that a log holds.
type Recorded struct {
	Event
	Position
	// RecordedAt is when its commit was written by the writer's clock, in UTC,
	// to the microsecond. Within a partition it never runs backwards.
	RecordedAt time.Time
}

// PartitionOf returns the partition, 0 ≤ p < partitions, that a stream's events
// are kept in: the FNV-1a hash (64 bit, folded) of the stream's 16 bytes, modulo
// partitions. It is part of the stored format and never changes.
func PartitionOf(stream uuid.UUID, partitions int) int {
	if partitions <= 1 {
		return 0
	}
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for _, b := range stream {
		h = (h ^ uint64(b)) * prime
	}
	h ^= h >> 32
	return int(h % uint64(partitions)) //nolint:gosec // partitions is positive
}

// DeriveID makes the UUID (version 5) that stands for name within space. Events
// that follow from another event take such an ID, so that working through the
// cause again appends nothing new.
func DeriveID(space uuid.UUID, name string) uuid.UUID {
	return uuid.NewSHA1(space, []byte(name))
}

// VersionKey is the unique key that guards one version of a stream.
func VersionKey(stream uuid.UUID, version uint64) string {
	b := make([]byte, 0, 16+1+8)
	b = append(b, stream[:]...)
	b = append(b, '@')
	b = binary.BigEndian.AppendUint64(b, version)
	return string(b)
}

// Keys appends to keys what the event must be the only one to hold: its stream's
// version and its claims.
func (e *Event) Keys(keys []string) []string {
	if e.Version > 0 {
		keys = append(keys, VersionKey(e.Stream, e.Version))
	}
	for _, c := range e.Claims {
		keys = append(keys, ClaimKey(c))
	}
	return keys
}

// ClaimKey is the unique key that guards a claim.
func ClaimKey(claim string) string { return "claim:" + claim }

// Validate reports the first fault that makes an event unfit for a log.
func (e *Event) Validate() error {
	switch {
	case e.ID == uuid.Nil:
		return fmt.Errorf("event: id is missing")
	case e.Type == "" || len(e.Type) > 128:
		return fmt.Errorf("event %s: type must have 1 to 128 bytes, has %d", e.ID, len(e.Type))
	case e.Stream == uuid.Nil:
		return fmt.Errorf("event %s: stream is missing", e.ID)
	case e.OccurredAt.IsZero():
		return fmt.Errorf("event %s: occurred_at is missing", e.ID)
	case len(e.Data) > MaxData:
		return fmt.Errorf("event %s: data has %d bytes, at most %d are allowed", e.ID, len(e.Data), MaxData)
	case len(e.Claims) > MaxClaims:
		return fmt.Errorf("event %s: %d claims, at most %d are allowed", e.ID, len(e.Claims), MaxClaims)
	}
	for _, c := range e.Claims {
		if c == "" || len(c) > 256 {
			return fmt.Errorf("event %s: a claim must have 1 to 256 bytes, has %d", e.ID, len(c))
		}
	}
	return nil
}
