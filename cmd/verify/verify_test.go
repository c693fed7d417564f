package verify_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/verify"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
)

// crafted is a store that keeps what no writer would have written.
type crafted struct {
	t       *testing.T
	name    string
	commits [][]events.Commit       // by partition
	others  map[int][]log.Entry     // that come after the commits
	ends    map[int]error           // with what the walk over a partition ends
	lost    map[string]bool         // keys that are not held, though events take them
	strange map[int][]log.StoredKey // keys that are held besides
	moved   map[string]uint64       // keys that lead to other commits
	late    map[int][]events.Commit // that are appended once the keys are asked for
	reached []subscription.Checkpoint
}

func (s *crafted) Name() string    { return s.name }
func (s *crafted) Partitions() int { return len(s.commits) }

func (s *crafted) Entries(ctx context.Context, partition int) iter.Seq2[log.Entry, error] {
	return func(yield func(log.Entry, error) bool) {
		for _, c := range s.commits[partition] {
			if err := ctx.Err(); err != nil {
				yield(log.Entry{}, err)
				return
			}
			if !yield(log.Entry{Place: fmt.Sprint("commit ", c.First), Sequence: c.First, Commit: c}, nil) {
				return
			}
		}
		for _, e := range s.others[partition] {
			if !yield(e, nil) {
				return
			}
		}
		if err := s.ends[partition]; err != nil {
			yield(log.Entry{}, err)
		}
	}
}

func (s *crafted) Keys(_ context.Context, partition int) iter.Seq2[log.StoredKey, error] {
	return func(yield func(log.StoredKey, error) bool) {
		s.commits[partition] = append(s.commits[partition], s.late[partition]...)
		keys := slices.Clone(s.strange[partition])
		for _, c := range s.commits[partition] {
			for e := range c.Events() {
				for _, k := range e.Keys(nil) {
					first := c.First
					if to, ok := s.moved[k]; ok {
						first = to
					}
					keys = append(keys, log.StoredKey{Place: "a key", Key: k, First: first})
				}
			}
		}
		for _, k := range keys {
			if !s.lost[k.Key] && !yield(k, nil) {
				return
			}
		}
	}
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// write puts a commit at the partition's end, a second later than the one before,
// and changes it first in whatever way.
func (s *crafted) write(partition int, evs []events.Event, change func(*header)) {
	s.t.Helper()
	h := header{log: s.name, partition: partition, first: 1, recorded: noon}
	if before := s.commits[partition]; len(before) > 0 {
		last := before[len(before)-1]
		h.first, h.recorded = last.Last()+1, last.RecordedAt.Add(time.Second)
	}
	if change != nil {
		change(&h)
	}
	c, err := events.Encode(h.log, h.partition, h.first, h.recorded, uuid.UUID{9}, evs)
	if err != nil {
		s.t.Fatal(err)
	}
	s.commits[partition] = append(s.commits[partition], c)
}

type header struct {
	log       string
	partition int
	first     uint64
	recorded  time.Time
}

// stream is the n-th one of a partition.
func stream(partition, n int) uuid.UUID {
	for i := byte(1); ; i++ {
		if id := (uuid.UUID{i, 1}); events.PartitionOf(id, partitions) == partition {
			if n--; n < 0 {
				return id
			}
		}
	}
}

const partitions = 4

// visit is a good event of a partition; change makes it another.
func visit(partition int, change func(*events.Event)) events.Event {
	e := events.Event{
		ID: uuid.New(), Type: events.ProfileVisited, Stream: stream(partition, 0), OccurredAt: noon.Add(-time.Hour),
		Data: events.Activity{Target: uuid.UUID{7}, JoinedAt: noon.AddDate(-1, 0, 0)}.AppendJSON(nil),
	}
	if change != nil {
		change(&e)
	}
	return e
}

func of(evs ...events.Event) []events.Event { return evs }

// sound is an activity log with nothing wrong: three commits of partition 1, one
// of partition 2, versions and claims among them.
func sound(t *testing.T) *crafted {
	s := &crafted{t: t, name: events.ActivityLog, commits: make([][]events.Commit, partitions),
		ends: map[int]error{}, others: map[int][]log.Entry{}, lost: map[string]bool{}, strange: map[int][]log.StoredKey{}, moved: map[string]uint64{}, late: map[int][]events.Commit{}}
	s.write(1, of(visit(1, nil), visit(1, func(e *events.Event) { e.Version = 1; e.Claims = []string{"a name"} })), nil)
	s.write(1, of(visit(1, func(e *events.Event) { e.Version = 2; e.Type = events.ProfileLiked })), nil)
	s.write(1, of(visit(1, nil), visit(1, func(e *events.Event) { e.Stream = stream(1, 1); e.Version = 1 })), nil)
	s.write(2, of(visit(2, nil)), nil)
	return s
}

// check returns the findings as text and what is told of progress.
func check(t *testing.T, s *crafted) (sum verify.Summary, found []string, told int, err error) {
	t.Helper()
	sum, err = verify.Scan(t.Context(), s, s.reached, func(f verify.Finding) { found = append(found, f.String()) }, func(n int) { told += n })
	if sum.Findings != len(found) {
		t.Errorf("%d findings are summed up, %d were reported", sum.Findings, len(found))
	}
	return sum, found, told, err
}

func TestASoundLogHasNoFaultsAndIsSummedUp(t *testing.T) {
	sum, found, told, err := check(t, sound(t))
	if err != nil || len(found) > 0 {
		t.Fatalf("%q, %v", found, err)
	}
	want := verify.Summary{Log: "activity", Partitions: 4, Commits: 4, Events: 6, Types: map[string]int{events.ProfileVisited: 5, events.ProfileLiked: 1}}
	if fmt.Sprint(sum) != fmt.Sprint(want) || told != 6 {
		t.Errorf("%+v, want %+v; progress %d", sum, want, told)
	}
}

func TestEachKindOfFaultIsFoundWhereItIs(t *testing.T) {
	twice := visit(2, nil)
	for name, c := range map[string]struct {
		spoil func(s *crafted)
		want  []string // the start of each finding
	}{
		"a commit that cannot be read, at the end": {func(s *crafted) {
			s.others[1] = []log.Entry{{Place: "here", Sequence: 6, Err: fmt.Errorf("%w: checksum", events.ErrCorrupt)}}
		}, []string{"activity/1 at 6: here: not a whole, unharmed commit: checksum; nothing that can be read follows it"}},
		"a commit that cannot be read, in the middle": {func(s *crafted) {
			c := s.commits[1][1]
			s.others[1] = []log.Entry{
				{Place: "here", Sequence: 6, Err: events.ErrCorrupt},
				{Place: "there", Sequence: 9, Err: events.ErrCorrupt},
			}
			s.write(2, of(visit(2, nil)), nil)
			s.others[2] = []log.Entry{{Place: "here", Sequence: c.First, Err: events.ErrCorrupt}}
		}, []string{
			"activity/1 at 6: here: not a whole, unharmed commit; sequences 6 to 8 cannot be read",
			"activity/1 at 9: there: not a whole, unharmed commit; nothing",
			"activity/2 at 3: here: not a whole, unharmed commit; nothing",
		}},
		"something that stands under no sequence": {func(s *crafted) {
			s.others[2] = []log.Entry{{Place: "here", Err: fmt.Errorf("%w: its key is no sequence", events.ErrCorrupt)}}
		}, []string{"activity/2: here: not a whole, unharmed commit: its key"}},
		"a commit that the store says something wrong of": {func(s *crafted) {
			c := s.commits[2][0]
			s.commits[2] = nil
			s.others[2] = []log.Entry{{Place: "here", Sequence: 1, Commit: c, Err: fmt.Errorf("%w: its field n", events.ErrCorrupt)}}
		}, []string{"activity/2 at 1: here: not a whole, unharmed commit: its field n"}},
		"versions after a commit that cannot be read": {func(s *crafted) {
			s.commits[1] = append(s.commits[1][:1], s.commits[1][2]) // with version 2 of a stream
			s.others[1] = nil
			s.write(1, of(visit(1, func(e *events.Event) { e.Version = 3 }), visit(1, func(e *events.Event) { e.Version = 2 })), nil)
		}, []string{"activity/1 at 3: sequences 3 to 3 are missing", "activity/1 at 7: version 2 of stream"}},
		"a key that no event takes": {func(s *crafted) {
			s.strange[2] = []log.StoredKey{{Place: "here", Key: "x", First: 1}}
		}, []string{"activity/2 at 1: here: the store guards a key that no event of this commit takes"}},
		"a key that leads nowhere": {func(s *crafted) {
			s.strange[2] = []log.StoredKey{{Place: "here", Key: "x", First: 7}, {Place: "there", Key: "y", First: 9}}
		}, []string{"activity/2 at 7: here: a key leads to a commit that is not there", "activity/2 at 9: there"}},
		"a key that leads to another commit": {func(s *crafted) {
			s.moved[events.ClaimKey("a name")] = 3
		}, []string{"activity/1 at 2: a key: a key of this event leads to commit 3, the event is in commit 1"}},
		"a key that is none": {func(s *crafted) {
			s.strange[2] = []log.StoredKey{{Place: "here", Err: events.ErrCorrupt}}
		}, []string{"activity/2: here: not a whole"}},
		"a commit of another log": {func(s *crafted) {
			s.write(2, of(visit(2, nil)), func(h *header) { h.log = "user" })
		}, []string{"activity/2 at 2: commit 2: it holds commit 2 of user/2"}},
		"a commit of another partition": {func(s *crafted) {
			s.write(2, of(visit(2, nil)), func(h *header) { h.partition = 3 })
		}, []string{"activity/2 at 2: commit 2: it holds commit 2 of activity/3"}},
		"an end that is missing": {func(s *crafted) {
			reach := func(group, log string, partition int, sequence uint64) {
				s.reached = append(s.reached, subscription.Checkpoint{Place: subscription.Place{Group: group, Log: log, Partition: partition}, Sequence: sequence})
			}
			reach("slow", "activity", 2, 1)
			reach("fast", "activity", 2, 9)
			reach("faster", "user", 2, 10)
			reach("fast", "activity", 3, 4)
			reach("done", "activity", 1, 5)
		}, []string{
			"activity/2 at 2: sequences 2 to 9 are missing: the subscription fast has worked through them, and the log ends before",
			"activity/3 at 1: sequences 1 to 4 are missing: the subscription fast",
		}},
		"a hole": {func(s *crafted) {
			s.write(2, of(visit(2, nil)), func(h *header) { h.first = 5 })
		}, []string{"activity/2 at 2: sequences 2 to 4 are missing"}},
		"a hole at the start": {func(s *crafted) {
			s.write(3, of(visit(3, nil)), func(h *header) { h.first = 2 })
		}, []string{"activity/3 at 1: sequences 1 to 1 are missing"}},
		"an overlap": {func(s *crafted) {
			s.write(2, of(visit(2, nil), visit(2, nil)), func(h *header) { h.first = 1 })
		}, []string{"activity/2 at 1: a commit starts at 1, but events up to 1 stand before it"}},
		"recorded time that runs backwards": {func(s *crafted) {
			s.write(2, of(visit(2, nil)), func(h *header) { h.recorded = noon.Add(-time.Microsecond) })
		}, []string{"activity/2 at 2: recorded 2026-01-01 11:59:59.999999 +0000 UTC, the commit before it 2026-01-01 12:00:00"}},
		"a malformed event": {func(s *crafted) {
			s.write(2, of(visit(2, nil), visit(2, func(e *events.Event) { e.Type = "" })), nil)
		}, []string{"activity/2 at 3: event "}},
		"an ID twice": {func(s *crafted) {
			s.write(2, of(twice, visit(2, nil), twice), nil)
		}, []string{"activity/2 at 4: event " + twice.ID.String() + " stands at 2 already"}},
		"an event in a partition that is not its stream's": {func(s *crafted) {
			s.write(2, of(visit(3, nil)), nil)
		}, []string{"activity/2 at 2: stream " + stream(3, 0).String() + " belongs to partition 3"}},
		"a version left out": {func(s *crafted) {
			s.write(1, of(visit(1, func(e *events.Event) { e.Version = 4 })), nil)
		}, []string{"activity/1 at 6: version 4 of stream " + stream(1, 0).String() + " where 3 belongs"}},
		"a version twice": {func(s *crafted) {
			s.write(1, of(visit(1, func(e *events.Event) { e.Version = 2 })), nil)
		}, []string{"activity/1 at 6: version 2 of stream " + stream(1, 0).String() + " where 3 belongs", "activity/1 at 6: a key of event "}},
		"a claim twice": {func(s *crafted) {
			s.write(1, of(visit(1, nil), visit(1, func(e *events.Event) { e.Claims = []string{"another", "a name"} })), nil)
		}, []string{"activity/1 at 7: a key of event "}},
		"a claim that the store lost": {func(s *crafted) {
			s.lost[events.ClaimKey("a name")] = true
		}, []string{"activity/1 at 2: the store does not guard a key"}},
		"a version that the store lost": {func(s *crafted) {
			s.lost[events.VersionKey(stream(1, 1), 1)] = true
		}, []string{"activity/1 at 5: the store does not guard a key"}},
		"an event of another log": {func(s *crafted) {
			s.write(2, of(visit(2, func(e *events.Event) { e.Type = events.UserCleared })), nil)
		}, []string{"activity/2 at 2: an event of type user.cleared.v1 belongs to the log user"}},
		"data that is not JSON": {func(s *crafted) {
			s.write(2, of(visit(2, func(e *events.Event) { e.Data = []byte("{") })), nil)
		}, []string{"activity/2 at 2: the data of "}},
		"data of another shape": {func(s *crafted) {
			s.write(2, of(visit(2, func(e *events.Event) { e.Data = []byte(`{"target":7}`) })), nil)
		}, []string{"activity/2 at 2: the data of "}},
		"several": {func(s *crafted) {
			s.lost[events.ClaimKey("a name")] = true
			s.write(1, of(visit(2, nil)), func(h *header) { h.first = 8 })
			s.write(3, of(visit(3, func(e *events.Event) { e.Data = nil })), nil)
		}, []string{
			"activity/1 at 6: sequences 6 to 7 are missing", "activity/1 at 8: stream ", "activity/1 at 2: the store does not guard",
			"activity/3 at 1: the data of ",
		}},
	} {
		s := sound(t)
		c.spoil(s)
		_, found, _, err := check(t, s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.EqualFunc(found, c.want, strings.HasPrefix) {
			t.Errorf("%s: found\n\t%s\nwant\n\t%s", name, strings.Join(found, "\n\t"), strings.Join(c.want, "\n\t"))
		}
	}
}

func TestATypeThatThisBuildDoesNotKnowIsCountedAndNoFault(t *testing.T) {
	s := sound(t)
	s.write(2, of(visit(2, func(e *events.Event) { e.Type = "activity.waved.v1"; e.Data = []byte("not JSON") })), nil)
	sum, found, _, err := check(t, s)
	if err != nil || len(found) > 0 || sum.Unknown != 1 || sum.Types["activity.waved.v1"] != 1 {
		t.Errorf("%+v %q %v", sum, found, err)
	}
}

func TestEveryKeyIsLookedUpHoweverManyThereAre(t *testing.T) {
	s := sound(t)
	s.commits[3] = nil
	const many = 2500 // more than are looked up at once, and not a multiple
	for from := 0; from < many; from += 500 {
		var evs []events.Event
		for i := range 500 {
			evs = append(evs, visit(3, func(e *events.Event) { e.Claims = []string{fmt.Sprint("claim ", from+i)} }))
		}
		s.write(3, evs, nil)
	}
	for i := range many {
		s.lost[events.ClaimKey(fmt.Sprint("claim ", i))] = true
	}
	_, found, _, err := check(t, s)
	if err != nil || len(found) != many {
		t.Errorf("%d of %d lost keys were found; %v", len(found), many, err)
	}
}

// TestWhatIsAppendedMeanwhileIsNoFault: its keys are seen, its events were not.
func TestWhatIsAppendedMeanwhileIsNoFault(t *testing.T) {
	s := sound(t)
	before := len(s.commits[1])
	s.write(1, of(visit(1, func(e *events.Event) { e.Claims = []string{"a new name"} })), nil)
	s.late[1] = s.commits[1][before:]
	s.commits[1] = s.commits[1][:before:before]
	if _, found, _, err := check(t, s); err != nil || len(found) > 0 {
		t.Errorf("found %q, %v", found, err)
	}
}

// TestAStoreThatFailsIsNoFault: what could not be read is not known to be harmed.
func TestAStoreThatFailsIsNoFault(t *testing.T) {
	gone := errors.New("the server is gone")
	s := sound(t)
	s.ends[1] = gone
	if _, found, _, err := check(t, s); !errors.Is(err, gone) || len(found) > 0 {
		t.Errorf("%v, found %q", err, found)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := verify.Scan(ended, sound(t), nil, func(f verify.Finding) { t.Errorf("found %v", f) }, func(int) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("with its context ended: %v", err)
	}
}
