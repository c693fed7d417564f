package history_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/history"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// story is a small history that is told by hand. Its log has 4 partitions.
type story struct {
	*history.Recorder
	*book
	made int
}

func newStory(t testing.TB) *story {
	return &story{Recorder: history.NewRecorder(), book: &book{t: t, name: events.ActivityLog, pages: make([][]page, 4), heads: map[int]uint64{}}}
}

// visit makes the next event, of the partition's first stream; change makes it
// another.
func (s *story) visit(partition int, change ...func(*events.Event)) events.Event {
	s.made++
	e := events.Event{
		ID: id(s.made), Type: events.ProfileVisited, Stream: stream(partition, 4, 0), OccurredAt: noon,
		Data: []byte(fmt.Sprintf(`{"n":%d}`, s.made)),
	}
	for _, c := range change {
		c(&e)
	}
	return e
}

func version(v uint64) func(*events.Event)     { return func(e *events.Event) { e.Version = v } }
func claiming(c ...string) func(*events.Event) { return func(e *events.Event) { e.Claims = c } }
func typed(t string) func(*events.Event)       { return func(e *events.Event) { e.Type = t } }
func of(stream uuid.UUID) func(*events.Event)  { return func(e *events.Event) { e.Stream = stream } }
func at(p int, sequence uint64) events.Position {
	return events.Position{Partition: p, Sequence: sequence}
}

func intents(evs []events.Event) []history.Intent {
	out := make([]history.Intent, len(evs))
	for i, e := range evs {
		out[i] = history.Intent{ID: e.ID, Type: e.Type, Stream: e.Stream, Version: e.Version, Claims: e.Claims}
	}
	return out
}

func (s *story) ask(client string, evs ...events.Event) *history.Call {
	return s.Invoke(client, s.name, intents(evs)...)
}

// do asks, writes and acknowledges.
func (s *story) do(client string, evs ...events.Event) []events.Position {
	c := s.ask(client, evs...)
	where := s.write(events.PartitionOf(evs[0].Stream, 4), evs...)
	c.Acknowledge(where...)
	return where
}

// fill writes so many events that nobody asked for.
func (s *story) fill(partition, n int) {
	for n > 0 {
		evs := make([]events.Event, min(n, events.MaxCommitEvents))
		for i := range evs {
			evs[i] = s.visit(partition)
		}
		s.write(partition, evs...)
		n -= len(evs)
	}
}

// hand delivers what the log holds at the sequences of a partition.
func (s *story) hand(subscriber string, partition int, sequences ...uint64) {
	for _, n := range sequences {
		e, err := log.Get(s.t.Context(), s.book, at(partition, n))
		if err != nil {
			s.t.Fatal(err)
		}
		s.Deliver(subscriber, s.name, e)
	}
}

func (s *story) check(t testing.TB) []history.Violation {
	t.Helper()
	vs, err := s.Check(t.Context(), s.book)
	if err != nil {
		t.Fatal(err)
	}
	return vs
}

// short is the violation without what is the same in all IDs.
func short(v history.Violation) string {
	return strings.ReplaceAll(strings.ReplaceAll(v.String(), "-0000-0000-0000-000000000000", ""), "activity.profile_visited.v1", "visit")
}

func TestASoundHistoryHasNoViolations(t *testing.T) {
	for name, tell := range map[string]func(s *story){
		"nothing happened": func(*story) {},
		"one client after the other": func(s *story) {
			s.do("anna", s.visit(1))
			s.do("bert", s.visit(1), s.visit(1))
			s.do("anna", s.visit(2))
		},
		"of two who ask at once either may be first": func(s *story) {
			a, b := s.visit(1), s.visit(1)
			first, second := s.ask("anna", a), s.ask("bert", b)
			where := s.write(1, b, a)
			first.Acknowledge(where[1])
			second.Acknowledge(where[0])
		},
		"an unknown one that was not written": func(s *story) { s.ask("anna", s.visit(1)).Unknown("timeout") },
		"an unknown one that was written later than another that was asked for later": func(s *story) {
			e := s.visit(1)
			s.ask("anna", e).Unknown("timeout")
			s.do("bert", s.visit(1))
			s.write(1, e)
		},
		"a call without an answer": func(s *story) {
			e := s.visit(1)
			s.ask("anna", e)
			s.ask("anna", s.visit(1))
			s.write(1, e)
		},
		"an unknown one that is answered with its first position when it is asked for again": func(s *story) {
			e := s.visit(1)
			s.ask("anna", e).Unknown("503")
			s.write(1, e)
			s.do("bert", s.visit(1))
			s.ask("anna", e).Acknowledge(at(1, 1))
		},
		"an acknowledged one that is asked for again": func(s *story) {
			e := s.visit(1)
			where := s.do("anna", e)
			s.ask("anna", e).Acknowledge(where...)
			s.ask("bert", e).Acknowledge() // told that it is there and not where
		},
		"an unknown one that is refused when it is asked for again": func(s *story) {
			e := s.visit(1, version(1))
			s.ask("anna", e).Unknown("503")
			s.write(1, e)
			s.ask("anna", e).Conflict("412")
		},
		"one that was refused and is asked for again in another way": func(s *story) {
			s.do("anna", s.visit(1, version(1)))
			e := s.visit(1, version(1))
			s.ask("bert", e).Conflict("409")
			e.Version = 2
			s.do("bert", e)
		},
		"one that was refused to one while another has no answer yet": func(s *story) {
			e := s.visit(1)
			s.ask("anna", e)
			s.ask("anna", e).Conflict("409")
			s.write(1, e)
		},
		"an ID that is written again once it has left the window": func(s *story) {
			e := s.visit(1)
			s.do("anna", e)
			s.fill(1, log.Window)
			s.do("anna", e)
		},
		"a batch that is retried whole": func(s *story) {
			evs := []events.Event{s.visit(1), s.visit(1), s.visit(1)}
			s.ask("anna", evs...).Unknown("cut")
			where := s.write(1, evs...)
			s.ask("anna", evs...).Acknowledge(where...)
		},
		"a batch with an event that was there before": func(s *story) {
			a, b := s.visit(1), s.visit(1)
			first := s.do("anna", a)
			s.do("anna", s.visit(1))
			c := s.ask("anna", a, b)
			c.Acknowledge(first[0], s.write(1, b)[0])
		},
		"a batch that was not written and an event of it that is asked for alone": func(s *story) {
			a, b := s.visit(1), s.visit(1)
			s.ask("anna", a, b).Unknown("cut")
			s.ask("anna", a).Unknown("cut")
			s.write(1, a)
		},
		"a batch that names an event twice": func(s *story) {
			a, b := s.visit(1), s.visit(1)
			c := s.ask("anna", a, b, a)
			where := s.write(1, a, b)
			c.Acknowledge(where[0], where[1], where[0])
		},
		"versions and claims that were refused to the second": func(s *story) {
			a, b := s.visit(1, version(1), claiming("name")), s.visit(1, version(1), claiming("name"))
			first, second := s.ask("anna", a), s.ask("bert", b)
			first.Acknowledge(s.write(1, a)...)
			second.Conflict("stream has moved")
			s.do("bert", s.visit(1, version(2)))
		},
		"events that only the server knows by ID": func(s *story) {
			registered := s.visit(1, version(1))
			c := s.Invoke("anna", s.name, history.Intent{Type: events.ProfileVisited, Claims: []string{"handle anna"}})
			s.write(1, registered)
			c.Learn(history.Intent{Type: events.ProfileVisited, Stream: registered.Stream, Version: 1, Claims: []string{"handle anna"}})
			c.Acknowledge()
			patch := s.visit(1, version(2))
			s.Invoke("anna", s.name, history.Intent{Stream: patch.Stream, Version: 2}).Unknown("cut")
			s.write(1, patch)
			s.Invoke("anna", s.name, history.Intent{Stream: patch.Stream, Version: 2}).Conflict("412")
			s.Exclusive(s.name)
		},
		"others write types that are not exclusive": func(s *story) {
			s.Exclusive(s.name, events.ProfileVisited)
			s.do("anna", s.visit(1))
			s.write(1, s.visit(1, typed(events.ActorHidden)))
		},
		"a subscriber that starts again where it was or before": func(s *story) {
			s.do("anna", s.visit(1), s.visit(1), s.visit(1))
			s.Complete("views", s.name)
			s.Restart("views", s.name, 1)
			s.hand("views", 1, 1, 2)
			s.Restart("views", s.name, 1)
			s.hand("views", 1, 2, 3)
			s.Restart("views", s.name, 1)
			s.Restart("views", s.name, 1)
			s.hand("views", 1, 1, 2, 3)
			s.do("anna", s.visit(1))
			s.Restart("views", s.name, 1)
			s.hand("views", 1, 4)
		},
		"a subscriber that has not come far": func(s *story) {
			s.do("anna", s.visit(1), s.visit(1), s.visit(1))
			s.hand("views", 1, 1, 2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			tell(s)
			for _, v := range s.check(t) {
				t.Error(v)
			}
		})
	}
}

func TestEachRuleIsFoundBrokenWithItsEvidenceAndNoOther(t *testing.T) {
	for _, c := range []struct {
		name string
		tell func(s *story)
		want string // every violation, without the indentation
	}{
		{"an acknowledged event that is not there is lost", func(s *story) {
			s.ask("anna", s.visit(3)).Acknowledge(at(3, 1))
			s.do("bert", s.visit(3))
		}, `lost: activity/3: event 00000001 was acknowledged and is nowhere in the log
			call 1 by anna: append visit 00000001 acknowledged at activity/3 at 1
			log: activity/3 at 1 holds visit 00000002 of call 2 by bert`},
		{"so is one of which the client was not told where", func(s *story) {
			s.ask("anna", s.visit(3)).Acknowledge()
		}, `lost: activity/3: event 00000001 was acknowledged and is nowhere in the log
			call 1 by anna: append visit 00000001 acknowledged`},
		{"an acknowledged event that is elsewhere is lost", func(s *story) {
			a, b := s.visit(3), s.visit(3)
			one, other := s.ask("anna", a), s.ask("bert", b)
			s.write(3, a, b)
			one.Acknowledge(at(3, 2))
			other.Acknowledge(at(3, 2))
		}, `lost: activity/3: event 00000001 is not where it was acknowledged
			call 1 by anna: append visit 00000001 acknowledged at activity/3 at 2
			log: activity/3 at 2 holds visit 00000002 of call 2 by bert
			log: activity/3 at 1 holds visit 00000001 of call 1 by anna`},
		{"one that a retry is told is elsewhere is repeated, not lost", func(s *story) {
			a := s.visit(3)
			s.do("anna", a)
			s.do("bert", s.visit(3))
			s.ask("anna", a).Acknowledge(at(3, 2))
		}, `repeated: activity/3: event 00000001 was acknowledged at two positions
			call 1 by anna: append visit 00000001 acknowledged at activity/3 at 1
			call 3 by anna: append visit 00000001 acknowledged at activity/3 at 2`},
		{"an acknowledged part of a batch that is not there is lost", func(s *story) {
			a, b := s.visit(2), s.visit(2)
			s.ask("anna", a, b).Acknowledge(s.write(2, a)[0], at(2, 2))
		}, `lost: activity/2: event 00000002 was acknowledged and is nowhere in the log
			call 1 by anna: append visit 00000002, number 2 of 2, acknowledged at activity/2 at 2
			log: activity/2 at 2 holds nothing`},
		{"an acknowledged version that only the server knows by ID is lost", func(s *story) {
			s.Invoke("anna", s.name, history.Intent{Stream: stream(3, 4, 0), Version: 1}).Acknowledge()
		}, `lost: activity/3: an acknowledged version is not in the log
			call 1 by anna: append as version 1 of ` + stream(3, 4, 0).String() + ` acknowledged
			log: activity/3 holds no such version of stream ` + stream(3, 4, 0).String()},
		{"or is of another type", func(s *story) {
			s.Invoke("anna", s.name, history.Intent{Type: events.ProfileLiked, Stream: stream(3, 4, 0), Version: 1}).Acknowledge()
			s.write(3, s.visit(3, version(1)))
		}, `lost: activity/3: an acknowledged version is not in the log
			call 1 by anna: append activity.profile_liked.v1 as version 1 of ` + stream(3, 4, 0).String() + ` acknowledged
			log: version 1 of stream ` + stream(3, 4, 0).String() + ` is a visit`},
		{"an event that was refused stays out", func(s *story) {
			a := s.visit(3)
			s.ask("anna", a).Conflict("409")
			s.write(3, a)
		}, `refused but written: activity/3: event 00000001 was refused for certain and is in the log
			call 1 by anna: append visit 00000001 refused (409)
			log: activity/3 at 1 holds visit 00000001 of call 1 by anna`},
		{"an event stands once", func(s *story) {
			a := s.visit(3)
			s.do("anna", a)
			s.write(3, s.visit(3))
			s.write(3, a)
		}, `repeated: activity/3: event 00000001 stands twice
			log: activity/3 at 1 holds visit 00000001 of call 1 by anna
			log: activity/3 at 3 holds visit 00000001 of call 1 by anna`},
		{"also if nobody who was recorded asked for it", func(s *story) {
			a := s.visit(3)
			s.write(3, a, a)
		}, `repeated: activity/3: event 00000001 stands twice
			log: activity/3 at 1 holds visit 00000001
			log: activity/3 at 2 holds visit 00000001`},
		{"an event stands once within the window", func(s *story) {
			a := s.visit(3)
			s.do("anna", a)
			s.fill(3, log.Window-1)
			s.write(3, a)
		}, `repeated: activity/3: event 00000001 stands twice
			log: activity/3 at 1 holds visit 00000001 of call 1 by anna
			log: activity/3 at 65537 holds visit 00000001 of call 1 by anna`},
		{"a part of an append of unknown outcome is torn", func(s *story) {
			a, b := s.visit(3), s.visit(3)
			s.ask("anna", a, b).Unknown("cut")
			s.write(3, b)
		}, `torn: activity/3: a part of call 1 was written
			call 1 by anna: append visit 00000001, number 1 of 2, with unknown outcome (cut)
			log: activity/3 at 1 holds visit 00000002 of call 1 by anna
			log: event 00000001 of the same call is nowhere`},
		{"also if it was tried twice", func(s *story) {
			a, b := s.visit(3), s.visit(3)
			s.ask("anna", a, b).Unknown("cut")
			s.ask("anna", a, b).Unknown("cut")
			s.write(3, a)
		}, `torn: activity/3: a part of call 1 was written
			call 1 by anna: append visit 00000001, number 1 of 2, with unknown outcome (cut)
			log: activity/3 at 1 holds visit 00000001 of call 1 by anna
			log: event 00000002 of the same call is nowhere`},
		{"an append is one commit", func(s *story) {
			a, b := s.visit(3), s.visit(3)
			s.ask("anna", a, b).Acknowledge(s.write(3, a)[0], s.write(3, b)[0])
		}, `torn: activity/3: call 1 was written in two commits
			call 1 by anna: append visit 00000001, number 1 of 2, acknowledged at activity/3 at 1
			log: activity/3 at 1 holds visit 00000001 of call 1 by anna
			log: activity/3 at 2 holds visit 00000002 of call 1 by anna`},
		{"a stream's versions leave none out", func(s *story) {
			s.do("anna", s.visit(3, version(1)))
			s.do("anna", s.visit(3, version(3)))
		}, `version: activity/3: version 3 of stream ` + stream(3, 4, 0).String() + ` comes where 2 belongs
			log: activity/3 at 1 holds visit 00000001 as version 1 of ` + stream(3, 4, 0).String() + ` of call 1 by anna
			log: activity/3 at 2 holds visit 00000002 as version 3 of ` + stream(3, 4, 0).String() + ` of call 2 by anna`},
		{"an event has the version that was asked for", func(s *story) {
			s.do("anna", s.visit(3, version(1)))
			a := s.visit(3, version(3))
			c := s.ask("bert", a)
			a.Version = 2
			c.Acknowledge(s.write(3, a)...)
		}, `version: activity/3: event 00000002 is not what was asked for
			call 2 by bert: append visit 00000002 as version 3 of ` + stream(3, 4, 0).String() + ` acknowledged at activity/3 at 2
			log: activity/3 at 2 holds visit 00000002 as version 2 of ` + stream(3, 4, 0).String() + ` of call 2 by bert`},
		{"a version is acknowledged to one", func(s *story) {
			s.write(3, s.visit(3, version(1)))
			one, other := history.Intent{Stream: stream(3, 4, 0), Version: 1}, history.Intent{Stream: stream(3, 4, 0), Version: 1}
			a, b := s.Invoke("anna", s.name, one), s.Invoke("bert", s.name, other)
			a.Acknowledge()
			b.Acknowledge()
		}, `version: activity/3: version 1 of stream ` + stream(3, 4, 0).String() + ` was acknowledged to two
			call 1 by anna: append as version 1 of ` + stream(3, 4, 0).String() + ` acknowledged
			call 2 by bert: append as version 1 of ` + stream(3, 4, 0).String() + ` acknowledged`},
		{"a claim is held once", func(s *story) {
			s.do("anna", s.visit(3, claiming("a")))
			c := s.ask("bert", s.visit(3))
			c.Acknowledge(s.write(3, s.visit(3, func(e *events.Event) { e.ID = id(2) }, claiming("b", "a")))...)
		}, `claim: activity/3: the claim "a" is held twice
			log: activity/3 at 1 holds visit 00000001 of call 1 by anna
			log: activity/3 at 2 holds visit 00000002 of call 2 by bert`},
		{"a claim that was asked for is taken", func(s *story) {
			a := s.visit(3, claiming("a"))
			c := s.ask("anna", a)
			a.Claims = nil
			c.Acknowledge(s.write(3, a)...)
		}, `claim: activity/3: event 00000001 is not what was asked for
			call 1 by anna: append visit 00000001 claiming ["a"] acknowledged at activity/3 at 1
			log: activity/3 at 1 holds visit 00000001 of call 1 by anna`},
		{"a claim is acknowledged to one", func(s *story) {
			a := s.Invoke("anna", s.name, history.Intent{Stream: stream(3, 4, 0), Claims: []string{"handle x"}})
			b := s.Invoke("bert", s.name, history.Intent{Stream: stream(3, 4, 1), Claims: []string{"handle x"}})
			a.Acknowledge()
			b.Acknowledge()
		}, `claim: activity/3: the claim "handle x" was acknowledged to two
			call 1 by anna: append claiming ["handle x"] acknowledged
			call 2 by bert: append claiming ["handle x"] acknowledged`},
		{"what was acknowledged stands before what is asked for later", func(s *story) {
			a, b := s.visit(3), s.visit(3, of(stream(3, 4, 1)))
			s.ask("anna", a).Acknowledge(at(3, 2))
			s.ask("bert", b).Acknowledge(at(3, 1))
			s.write(3, b)
			s.write(3, a)
		}, `disordered: activity/3: an event stands before one that was acknowledged before it was asked for
			call 1 by anna: append visit 00000001 acknowledged at activity/3 at 2
			call 2 by bert: append visit 00000002 acknowledged at activity/3 at 1, asked for after that
			log: activity/3 at 1 holds visit 00000002 of call 2 by bert
			log: activity/3 at 2 holds visit 00000001 of call 1 by anna`},
		{"also if the later one is of unknown outcome", func(s *story) {
			a, b := s.visit(3), s.visit(3)
			s.ask("anna", a).Acknowledge(at(3, 3))
			s.ask("bert", b).Unknown("cut")
			s.write(3, b)
			s.write(3, s.visit(3))
			s.write(3, a)
		}, `disordered: activity/3: an event stands before one that was acknowledged before it was asked for
			call 1 by anna: append visit 00000001 acknowledged at activity/3 at 3
			call 2 by bert: append visit 00000002 with unknown outcome (cut), asked for after that
			log: activity/3 at 1 holds visit 00000002 of call 2 by bert
			log: activity/3 at 3 holds visit 00000001 of call 1 by anna`},
		{"a refusal does not make an event older", func(s *story) {
			a, b := s.visit(3), s.visit(3)
			s.ask("bert", b).Conflict("409")
			s.ask("anna", a).Acknowledge(at(3, 2))
			s.ask("bert", b).Acknowledge(at(3, 1))
			s.write(3, b)
			s.write(3, a)
		}, `disordered: activity/3: an event stands before one that was acknowledged before it was asked for
			call 2 by anna: append visit 00000001 acknowledged at activity/3 at 2
			call 3 by bert: append visit 00000002 acknowledged at activity/3 at 1, asked for after that
			log: activity/3 at 1 holds visit 00000002 of call 1 by bert
			log: activity/3 at 2 holds visit 00000001 of call 2 by anna`},
		{"of two acknowledgements the first counts", func(s *story) {
			a, b := s.visit(3), s.visit(3)
			slow := s.ask("anna", a)
			s.ask("anna", a).Acknowledge(at(3, 2))
			s.ask("bert", b).Acknowledge(at(3, 1))
			slow.Acknowledge(at(3, 2))
			s.write(3, b)
			s.write(3, a)
		}, `disordered: activity/3: an event stands before one that was acknowledged before it was asked for
			call 2 by anna: append visit 00000001 acknowledged at activity/3 at 2
			call 3 by bert: append visit 00000002 acknowledged at activity/3 at 1, asked for after that
			log: activity/3 at 1 holds visit 00000002 of call 3 by bert
			log: activity/3 at 2 holds visit 00000001 of call 1 by anna`},
		{"also if the other one comes later", func(s *story) {
			a, b := s.visit(3), s.visit(3)
			first, slow := s.ask("anna", a), s.ask("anna", a)
			first.Acknowledge(at(3, 2))
			s.ask("bert", b).Acknowledge(at(3, 1))
			slow.Acknowledge(at(3, 2))
			s.write(3, b)
			s.write(3, a)
		}, `disordered: activity/3: an event stands before one that was acknowledged before it was asked for
			call 1 by anna: append visit 00000001 acknowledged at activity/3 at 2
			call 3 by bert: append visit 00000002 acknowledged at activity/3 at 1, asked for after that
			log: activity/3 at 1 holds visit 00000002 of call 3 by bert
			log: activity/3 at 2 holds visit 00000001 of call 1 by anna`},
		{"the events of an append keep their order", func(s *story) {
			a, b := s.visit(3), s.visit(3)
			c := s.ask("anna", a, b)
			where := s.write(3, b, a)
			c.Acknowledge(where[1], where[0])
		}, `disordered: activity/3: the events of call 1 do not follow each other in their order
			call 1 by anna: append visit 00000001, number 1 of 2, acknowledged at activity/3 at 2
			log: activity/3 at 2 holds visit 00000001 of call 1 by anna
			log: activity/3 at 1 holds visit 00000002 of call 1 by anna`},
		{"nothing comes between the events of an append", func(s *story) {
			a, b := s.visit(3), s.visit(3)
			c := s.ask("anna", a, b)
			where := s.write(3, a, s.visit(3), b)
			c.Acknowledge(where[0], where[2])
		}, `disordered: activity/3: the events of call 1 do not follow each other in their order
			call 1 by anna: append visit 00000001, number 1 of 2, acknowledged at activity/3 at 1
			log: activity/3 at 1 holds visit 00000001 of call 1 by anna
			log: activity/3 at 3 holds visit 00000002 of call 1 by anna`},
		{"an event is in its stream's partition", func(s *story) {
			a := s.visit(3)
			s.ask("anna", a).Acknowledge(s.write(2, a)...)
		}, `misplaced: activity/2: stream ` + stream(3, 4, 0).String() + ` belongs to activity/3
			log: activity/2 at 1 holds visit 00000001 of call 1 by anna`},
		{"a commit is in its own log", func(s *story) {
			s.do("anna", s.visit(3))
			s.pages[3][0].log = events.UserLog
		}, `misplaced: activity/3: a commit of user/3 stands here
			log: activity/3 at 1 holds visit 00000001 of call 1 by anna`},
		{"sequences leave none out", func(s *story) {
			s.write(3, s.visit(3), s.visit(3))
			s.write(3, s.visit(3))
			s.pages[3][1].first = 4
			s.ask("anna", s.visit(3, func(e *events.Event) { e.ID = id(3) })).Acknowledge(at(3, 4))
		}, `sparse: activity/3: sequence 4 comes where 3 belongs
			log: activity/3 at 2 holds visit 00000002
			log: activity/3 at 4 holds visit 00000003 of call 1 by anna`},
		{"what is handed over of such a log is compared all the same", func(s *story) {
			s.write(3, s.visit(3), s.visit(3))
			s.write(3, s.visit(3))
			s.pages[3][1].first = 4
			s.hand("views", 3, 1, 2, 4)
			s.Complete("views", s.name)
		}, `sparse: activity/3: sequence 4 comes where 3 belongs
			log: activity/3 at 2 holds visit 00000002
			log: activity/3 at 4 holds visit 00000003
			gap: activity/3: views was handed 4 before 3
			log: activity/3 at 3 holds nothing
			views: handed activity/3 at 4 as 00000003`},
		{"recorded time does not run backwards", func(s *story) {
			s.write(3, s.visit(3))
			s.write(3, s.visit(3))
			s.pages[3][1].recorded = noon
		}, `sparse: activity/3: recorded time runs backwards
			log: the commit of activity/3 up to 1 was recorded at 2026-01-01T12:00:01Z
			log: the next one, from 2 on, at 2026-01-01T12:00:00Z`},
		{"the head is the last event's", func(s *story) {
			s.do("anna", s.visit(3))
			s.heads[3] = 2
		}, `sparse: activity/3: its head is not its last event
			log: activity/3 has its head at 2
			log: the last event that can be read is at 1`},
		{"where all writers are known, each event was asked for", func(s *story) {
			s.Exclusive(s.name, events.ProfileVisited)
			s.write(3, s.visit(3))
		}, `unasked: activity/3: nobody asked for event 00000001
			log: activity/3 at 1 holds visit 00000001`},
		{"an event is of the type that was asked for", func(s *story) {
			a := s.visit(3)
			c := s.ask("anna", a)
			a.Type = events.ProfileLiked
			c.Acknowledge(s.write(3, a)...)
		}, `unasked: activity/3: event 00000001 is not what was asked for
			call 1 by anna: append visit 00000001 acknowledged at activity/3 at 1
			log: activity/3 at 1 holds activity.profile_liked.v1 00000001 of call 1 by anna`},
		{"and not of the one that was refused", func(s *story) {
			a := s.visit(3, typed(events.ProfileLiked))
			s.ask("anna", a).Conflict("409")
			written := a
			a.Type = events.ProfileVisited
			s.ask("anna", a).Acknowledge(s.write(3, written)...)
		}, `unasked: activity/3: event 00000001 is not what was asked for
			call 2 by anna: append visit 00000001 acknowledged at activity/3 at 1
			log: activity/3 at 1 holds activity.profile_liked.v1 00000001 of call 1 by anna`},
		{"an event is of the stream that was asked for", func(s *story) {
			a := s.visit(3)
			c := s.ask("anna", a)
			a.Stream = stream(3, 4, 1)
			c.Acknowledge(s.write(3, a)...)
		}, `unasked: activity/3: event 00000001 is not what was asked for
			call 1 by anna: append visit 00000001 acknowledged at activity/3 at 1
			log: activity/3 at 1 holds visit 00000001 of call 1 by anna`},
		{"no event is handed over before its predecessor", func(s *story) {
			s.do("anna", s.visit(3), s.visit(3), s.visit(3))
			s.hand("views", 3, 1, 3, 2)
		}, `gap: activity/3: views was handed 3 before 2
			log: activity/3 at 2 holds visit 00000002 of call 1 by anna
			views: handed activity/3 at 3 as 00000003`},
		{"a subscriber begins at the beginning", func(s *story) {
			s.do("anna", s.visit(3), s.visit(3))
			s.hand("views", 3, 2)
		}, `gap: activity/3: views was handed 2 first
			log: activity/3 at 1 holds visit 00000001 of call 1 by anna
			views: handed activity/3 at 2 as 00000002`},
		{"a restart leaves nothing out", func(s *story) {
			s.do("anna", s.visit(3), s.visit(3), s.visit(3))
			s.hand("views", 3, 1)
			s.Restart("views", s.name, 3)
			s.hand("views", 3, 3)
		}, `gap: activity/3: views was handed 3 before 2
			log: activity/3 at 2 holds visit 00000002 of call 1 by anna
			views: handed activity/3 at 3 as 00000003`},
		{"neither does the second pass after a restart", func(s *story) {
			s.do("anna", s.visit(3), s.visit(3), s.visit(3))
			s.hand("views", 3, 1, 2, 3)
			s.Restart("views", s.name, 3)
			s.hand("views", 3, 1, 3)
		}, `gap: activity/3: views was handed 3 before 2
			log: activity/3 at 2 holds visit 00000002 of call 1 by anna
			views: handed activity/3 at 3 as 00000003`},
		{"no event is handed over again without a restart", func(s *story) {
			s.do("anna", s.visit(3), s.visit(3))
			s.Restart("views", s.name, 3)
			s.hand("views", 3, 1, 2, 2)
		}, `redelivered: activity/3: views was handed 2 again and had not been restarted
			views: handed activity/3 up to 2
			views: handed activity/3 at 2 as 00000002`},
		{"a restart of one partition is not one of another", func(s *story) {
			s.do("anna", s.visit(3), s.visit(3))
			s.hand("views", 3, 1, 2)
			s.Restart("views", s.name, 2)
			s.hand("views", 3, 1)
		}, `redelivered: activity/3: views was handed 1 again and had not been restarted
			views: handed activity/3 up to 2
			views: handed activity/3 at 1 as 00000001`},
		{"who starts again in the middle is not handed what comes before", func(s *story) {
			s.do("anna", s.visit(3), s.visit(3), s.visit(3))
			s.hand("views", 3, 1, 2, 3)
			s.Restart("views", s.name, 3)
			s.hand("views", 3, 3, 2)
		}, `redelivered: activity/3: views was handed 2 again and had not been restarted
			views: handed activity/3 up to 3
			views: handed activity/3 at 2 as 00000002`},
		{"of several handed again the first is shown", func(s *story) {
			s.do("anna", s.visit(3), s.visit(3), s.visit(3), s.visit(3))
			s.hand("views", 3, 1, 3, 2, 3, 4)
		}, `gap: activity/3: views was handed 3 before 2
			log: activity/3 at 2 holds visit 00000002 of call 1 by anna
			views: handed activity/3 at 3 as 00000003
			redelivered: activity/3: views was handed 3 again and had not been restarted
			views: handed activity/3 up to 3
			views: handed activity/3 at 3 as 00000003`},
		{"what is handed over is what the log holds", func(s *story) {
			s.do("anna", s.visit(3))
			s.Deliver("views", s.name, events.Recorded{Event: s.visit(3), Position: at(3, 1), RecordedAt: noon.Add(1e9)})
		}, `foreign: activity/3: views was handed another event than the log holds there
			views: handed activity/3 at 1 as 00000002
			log: activity/3 at 1 holds visit 00000001 of call 1 by anna`},
		{"also its data", func(s *story) {
			a := s.visit(3)
			s.do("anna", a)
			a.Data = []byte("{}")
			s.Deliver("views", s.name, events.Recorded{Event: a, Position: at(3, 1), RecordedAt: noon.Add(1e9)})
		}, `foreign: activity/3: views was handed an event whose type, stream, version, claims, times or data the log does not hold
			views: handed activity/3 at 1 as 00000001
			log: activity/3 at 1 holds visit 00000001 of call 1 by anna`},
		{"what is handed over is in the log", func(s *story) {
			s.Deliver("views", s.name, events.Recorded{Event: s.visit(3), Position: at(3, 1)})
		}, `foreign: activity/3: views was handed what the log does not hold
			views: handed activity/3 at 1 as 00000001
			log: activity/3 at 1 holds nothing`},
		{"and of a partition that there is", func(s *story) {
			s.Deliver("views", s.name, events.Recorded{Event: s.visit(3), Position: at(7, 1)})
		}, `foreign: activity/7: the log has no partition 7
			views: handed activity/7 at 1 as 00000001`},
		{"a complete subscriber has seen the end", func(s *story) {
			s.do("anna", s.visit(3), s.visit(3), s.visit(3))
			s.hand("views", 3, 1)
			s.Complete("views", s.name)
		}, `undelivered: activity/3: views was not handed 2 of 3 events
			log: activity/3 at 2 holds visit 00000002 of call 1 by anna, the first of them`},
		{"also of partitions of which it has seen nothing", func(s *story) {
			s.do("anna", s.visit(3))
			s.hand("views", 3, 1)
			s.do("anna", s.visit(1))
			s.Complete("views", s.name)
		}, `undelivered: activity/1: views was not handed 1 of 1 events
			log: activity/1 at 1 holds visit 00000002 of call 2 by anna, the first of them`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t)
			c.tell(s)
			var got []string
			for _, v := range s.check(t) {
				got = append(got, short(v))
			}
			if g, w := lines(strings.Join(got, "\n")), lines(c.want); !slices.Equal(g, w) {
				t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(g, "\n\t"), strings.Join(w, "\n\t"))
			}
		})
	}
}

// lines are those of a text, without the space around them.
func lines(text string) (out []string) {
	for l := range strings.Lines(text) {
		out = append(out, strings.TrimSpace(l))
	}
	return out
}

func TestTheGravestIsFirst(t *testing.T) {
	s := newStory(t)
	a := s.visit(3)
	s.do("anna", a)
	s.write(3, a)
	s.ask("anna", s.visit(3)).Acknowledge()
	s.ask("anna", s.visit(1)).Acknowledge()
	s.Complete("views", s.name)
	var got []string
	for _, v := range s.check(t) {
		got = append(got, fmt.Sprintf("%s %d", v.Rule, v.Partition))
	}
	if want := []string{"lost 1", "lost 3", "repeated 3", "undelivered 3"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestAHandfulIsShownAndTheRestCounted(t *testing.T) {
	s := newStory(t)
	for range 12 {
		s.ask("anna", s.visit(3)).Acknowledge()
	}
	s.ask("anna", s.visit(2)).Acknowledge()
	vs := s.check(t)
	if len(vs) != 6 || history.Count(vs, history.Lost) != 13 || history.Count(vs, history.Gap) != 0 {
		t.Fatalf("%d are shown, %d counted", len(vs), history.Count(vs, history.Lost))
	}
	if last := vs[5].String(); !strings.HasSuffix(last, "\n  and 7 more of this kind in activity/3") {
		t.Errorf("the last one: %s", last)
	}
}

func TestCountsAreOfEvents(t *testing.T) {
	s := newStory(t)
	s.do("anna", s.visit(1), s.visit(1))
	s.ask("anna", s.visit(1)).Conflict("409")
	s.ask("anna", s.visit(1), s.visit(1), s.visit(1)).Unknown("503")
	s.ask("anna", s.visit(1))
	s.hand("views", 1, 1, 2, 1)
	want := history.Counts{Calls: 4, Events: 7, Acknowledged: 2, Conflicts: 1, Unknown: 3, Deliveries: 3}
	if got := s.Counts(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestMisuseAndWhatCannotBeReadProveNothing(t *testing.T) {
	broken := errors.New("the disk is gone")
	for name, c := range map[string]struct {
		tell func(s *story)
		want string
	}{
		"a call that is settled twice": {func(s *story) {
			c := s.ask("anna", s.visit(1))
			c.Unknown("503")
			c.Acknowledge()
		}, "call 1 is settled twice"},
		"positions that are not one for each event": {func(s *story) {
			s.ask("anna", s.visit(1), s.visit(1)).Acknowledge(at(1, 1))
		}, "call 1 is acknowledged at 1 positions, it has 2 events"},
		"a partition that cannot be": {func(s *story) {
			s.ask("anna", s.visit(1)).Acknowledge(at(-1, 1))
		}, "call 1 is acknowledged in partition -1, want 0 to 65535"},
		"a call for nothing": {func(s *story) { s.ask("anna") }, "a call by anna asks for nothing"},
		"a call that learns late": {func(s *story) {
			c := s.ask("anna", s.visit(1))
			c.Unknown("503")
			c.Learn(history.Intent{})
		}, "call 1 was settled before it learned"},
		"a log that is not given":   {func(s *story) { s.Invoke("anna", "user", history.Intent{}) }, `the log "user" was recorded; give its reader`},
		"a log that was delivered":  {func(s *story) { s.Deliver("views", "user", events.Recorded{}) }, `the log "user" was recorded; give its reader`},
		"a log that is exclusive":   {func(s *story) { s.Exclusive("user") }, `the log "user" was recorded; give its reader`},
		"a log that is complete":    {func(s *story) { s.Complete("views", "user") }, `the log "user" was recorded; give its reader`},
		"a log that cannot be read": {func(s *story) { s.ends = broken }, "check the history of activity/0: the disk is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			c.tell(s)
			if vs, err := s.Check(t.Context(), s.book); err == nil || vs != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, %v; want %s", vs, err, c.want)
			}
		})
	}
	t.Run("a check that is called off", func(t *testing.T) {
		s := newStory(t)
		s.do("anna", s.visit(1))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Check(ctx, s.book); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
