package activity

import (
	"bytes"
	"context"
	"net/http"
	"slices"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/service/problem"
)

// batch is the lines of one request on their way into the log.
type batch struct {
	service *Service
	lines   []line
}

// line is one activity of a batch. Once it has a problem or a status, it is
// settled.
type line struct {
	command command
	event   events.Event
	problem *problem.Problem
	status  int
	answer  answer
	first   uint64 // sequence of the event that had the ID before
}

func (l *line) open() bool { return l.problem == nil }

func (l *line) refuse(err error) { l.problem = problem.Of(err) }

// newBatch reads every line. It fails if the body as a whole is no batch.
func newBatch(s *Service, body []byte, from caller) (*batch, error) {
	body = bytes.TrimSuffix(body, []byte("\n"))
	if len(body) == 0 {
		return nil, problem.BadRequest("the body is empty; send one activity a line")
	}
	n := bytes.Count(body, []byte("\n")) + 1
	if n > MaxLines {
		return nil, problem.TooLarge("the batch has more than 10000 lines; nothing was written, send it in parts")
	}
	b := &batch{service: s, lines: make([]line, n)}
	now, i := s.deps.Clock(), 0
	for text := range bytes.SplitSeq(body, []byte("\n")) {
		l := &b.lines[i]
		i++
		if len(text) > MaxLineBytes {
			l.refuse(problem.TooLarge("the line is longer than 4096 bytes"))
			continue
		}
		fields, err := decodeBody(text)
		if err == nil {
			l.command, err = newCommand(fields, from, now, s.deps.NewID)
		}
		if err != nil {
			l.command.id, _ = parseID(fields.id)
			l.refuse(err)
		}
	}
	return b, nil
}

// admit settles the lines whose actor or target does not exist. It catches up
// with the user log once for all of them.
func (b *batch) admit(ctx context.Context) {
	var unknown []*line
	for i := range b.lines {
		l := &b.lines[i]
		if l.open() && !b.lookUp(l) {
			unknown = append(unknown, l)
		}
	}
	if len(unknown) == 0 {
		return
	}
	if err := b.service.late.wait(ctx); err != nil {
		for _, l := range unknown {
			l.refuse(behind(err))
		}
		return
	}
	for _, l := range unknown {
		if !b.lookUp(l) {
			if err := l.command.unknown(b.service.users.pair(l.command.actor, l.command.target)); err != nil {
				l.refuse(err)
			}
		}
	}
}

// lookUp makes the line's event if both of its users are known.
func (b *batch) lookUp(l *line) bool {
	known := b.service.users.pair(l.command.actor, l.command.target)
	if !known.actorKnown || !known.targetKnown {
		return false
	}
	l.event = l.command.event(known)
	return true
}

// write appends what is open, each partition's lines in their order, and waits
// for all of it.
func (b *batch) write(ctx context.Context) {
	type part struct {
		lines   []*line
		pending *log.Pending
		err     error
	}
	var parts []part
	for _, lines := range b.byPartition() {
		for chunk := range slices.Chunk(lines, events.MaxCommitEvents) {
			evs := make([]events.Event, len(chunk))
			for i, l := range chunk {
				evs[i] = l.event
			}
			p := part{lines: chunk}
			p.pending, p.err = b.service.deps.Log.Submit(evs...)
			parts = append(parts, p)
		}
	}
	for _, p := range parts {
		var written []log.Appended
		if p.err == nil {
			written, p.err = p.pending.Wait(ctx)
		}
		if p.err != nil {
			b.service.deps.Logger.WarnContext(ctx, "lines of a batch were not written", "lines", len(p.lines), "error", p.err)
		}
		for i, l := range p.lines {
			if p.err != nil {
				l.refuse(refusal(p.err))
			} else {
				l.settle(written[i])
			}
		}
	}
}

func (b *batch) byPartition() [][]*line {
	partitions := make([][]*line, b.service.deps.Log.Partitions())
	for i := range b.lines {
		if l := &b.lines[i]; l.open() {
			p := events.PartitionOf(l.event.Stream, len(partitions))
			partitions[p] = append(partitions[p], l)
		}
	}
	return partitions
}

func (l *line) settle(a log.Appended) {
	if a.Duplicate {
		l.status, l.first = http.StatusOK, a.Sequence
		return
	}
	l.status = http.StatusCreated
	l.answer = answer{
		id: l.event.ID, actor: l.event.Stream, target: l.command.target, kind: l.command.kind,
		occurredAt: l.event.OccurredAt, recordedAt: a.RecordedAt, at: a.Position,
	}
}

// readAhead is how many events are read over to the next one that is wanted,
// before a new read is cheaper.
const readAhead = 4 * events.MaxCommitEvents

// readFirst finds the first answers of the lines whose IDs were in the log
// before, in one walk over each partition.
func (b *batch) readFirst(ctx context.Context) {
	for partition, lines := range b.byPartition() {
		lines = slices.DeleteFunc(lines, func(l *line) bool { return l.first == 0 })
		slices.SortStableFunc(lines, func(x, y *line) int {
			return int(min(max(int64(x.first)-int64(y.first), -1), 1)) //nolint:gosec // sequences are far below 1<<63
		})
		for len(lines) > 0 {
			rest, err := b.walk(ctx, partition, lines)
			if err == nil && len(rest) == len(lines) {
				err = log.ErrNotFound // the log has lost what it said was there
			}
			if err != nil {
				for _, l := range rest {
					l.refuse(unreadable(err))
				}
				break
			}
			lines = rest
		}
	}
}

// walk reads on from the first line's event and answers lines, sorted by the
// event that they want, until the next one is far away. It returns the others.
func (b *batch) walk(ctx context.Context, partition int, lines []*line) ([]*line, error) {
	for e, err := range log.Events(ctx, b.service.deps.Log, partition, lines[0].first-1) {
		if err != nil {
			return lines, err
		}
		for len(lines) > 0 && lines[0].first == e.Sequence {
			l := lines[0]
			if l.answer, err = sameActor(e, &l.event); err != nil {
				l.refuse(err)
			}
			lines = lines[1:]
		}
		if len(lines) == 0 || lines[0].first-e.Sequence > readAhead {
			return lines, nil
		}
	}
	return lines, nil
}

// appendLine appends what becomes of a line, counted from 1.
func (l *line) appendLine(b []byte, number int) []byte {
	if l.problem != nil {
		return appendRefusal(b, number, l.command.id, l.problem)
	}
	return l.answer.appendLine(b, number, l.status)
}
