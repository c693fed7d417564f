package history

import (
	"cmp"
	"context"
	"maps"
	"slices"
)

// lanesOf are those that were handed the partition or should have been, in order.
func (c *checker) lanesOf(partition int) []laneKey {
	var lanes []laneKey
	for k := range c.r.lanes {
		if k.log == c.log.Name() && k.partition == partition {
			lanes = append(lanes, k)
		}
	}
	for k := range c.r.complete {
		lane := laneKey{k.subscriber, k.log, partition}
		if k.log == c.log.Name() && !slices.Contains(lanes, lane) {
			lanes = append(lanes, lane)
		}
	}
	slices.SortFunc(lanes, func(a, b laneKey) int { return cmp.Compare(a.subscriber, b.subscriber) })
	return lanes
}

// deliveriesElsewhere finds what was handed of partitions that do not exist.
func (c *checker) deliveriesElsewhere() {
	elsewhere := slices.SortedFunc(maps.Keys(c.r.lanes), func(a, b laneKey) int {
		return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.subscriber, b.subscriber))
	})
	for _, k := range elsewhere {
		l := c.r.lanes[k]
		if k.log != c.log.Name() || k.partition >= 0 && k.partition < c.log.Partitions() || len(l.runs) == 0 {
			continue
		}
		c.found.add(Foreign, k.log, k.partition, func() (string, []string) {
			return sayf("the log has no partition %d", k.partition), []string{sayHanded(k, l.runs[0].first, l.handed.at(0))}
		})
	}
}

// deliveries checks what one subscriber was handed of a partition.
func (c *checker) deliveries(ctx context.Context, in *content, k laneKey) {
	l := c.r.lanes[k]
	if l == nil {
		l = new(lane)
	}
	// pass is what counts as handed since the last restart: that, and what comes
	// before where it started. ever is what was handed at all.
	var pass, ever spans
	for i, run := range l.runs {
		last := run.first + uint64(l.length(i)) - 1 //nolint:gosec // a run has an event
		next := pass.end() + 1
		if run.restart {
			next = run.highest + 1
			pass = spans{}
			if run.first > 1 && run.first <= next {
				pass = pass.add(1, run.first-1)
			}
		}
		if run.first > next {
			c.gap(ctx, k, l, i, next)
		} else if twice, again := pass.within(run.first, last); again {
			c.found.add(Redelivered, k.log, k.partition, func() (string, []string) {
				return sayf("%s was handed %d again and had not been restarted", k.subscriber, twice), []string{
					sayf("%s: handed %s up to %d", k.subscriber, place(k.log, k.partition), pass.end()),
					sayHanded(k, twice, l.handed.at(run.at+int(twice-run.first))), //nolint:gosec // within the run
				}
			})
		}
		for j := range l.length(i) {
			c.foreign(ctx, in, k, run.first+uint64(j), l.handed.at(run.at+j)) //nolint:gosec // an index
		}
		pass, ever = pass.add(run.first, last), ever.add(run.first, last)
	}
	if c.r.complete[completion{k.subscriber, k.log}] {
		c.complete(ctx, in, k, ever)
	}
}

// gap reports a run that begins beyond the sequence that came next.
func (c *checker) gap(ctx context.Context, k laneKey, l *lane, i int, next uint64) {
	run := l.runs[i]
	c.found.add(Gap, k.log, k.partition, func() (string, []string) {
		message := sayf("%s was handed %d before %d", k.subscriber, run.first, next)
		if i == 0 {
			message = sayf("%s was handed %d first", k.subscriber, run.first)
		}
		return message, []string{c.sayAt(ctx, k.partition, next), sayHanded(k, run.first, l.handed.at(run.at))}
	})
}

// foreign checks that the log holds what was handed.
func (c *checker) foreign(ctx context.Context, in *content, k laneKey, sequence uint64, handed *fingerprint) {
	e := in.find(sequence)
	if e == nil {
		c.found.add(Foreign, k.log, k.partition, func() (string, []string) {
			return sayf("%s was handed what the log does not hold", k.subscriber), []string{
				sayHanded(k, sequence, handed), c.sayAt(ctx, k.partition, sequence),
			}
		})
		return
	}
	id := c.index.all.at(int(e.identity)).id
	if id == handed.id && e.digest == handed.digest {
		return
	}
	c.found.add(Foreign, k.log, k.partition, func() (string, []string) {
		how := "another event than the log holds there"
		if id == handed.id {
			how = "an event whose type, stream, version, claims, times or data the log does not hold"
		}
		return sayf("%s was handed %s", k.subscriber, how), []string{
			sayHanded(k, sequence, handed), c.sayAt(ctx, k.partition, sequence),
		}
	})
}

// complete checks that everything was handed at some time.
func (c *checker) complete(ctx context.Context, in *content, k laneKey, ever spans) {
	missing, first := 0, uint64(0)
	for i := range in.entries.len() {
		sequence := in.entries.at(i).sequence
		if _, handed := ever.within(sequence, sequence); !handed {
			if missing++; missing == 1 {
				first = sequence
			}
		}
	}
	if missing == 0 {
		return
	}
	c.found.add(Undelivered, k.log, k.partition, func() (string, []string) {
		return sayf("%s was not handed %d of %d events", k.subscriber, missing, in.entries.len()), []string{
			c.sayAt(ctx, k.partition, first) + ", the first of them",
		}
	})
}

// spans are ranges of sequences, in order, without touching each other.
type spans []span

type span struct{ from, to uint64 }

// add returns the spans with one more range.
func (s spans) add(from, to uint64) spans {
	i, _ := slices.BinarySearchFunc(s, from, func(a span, from uint64) int { return cmp.Compare(a.to+1, from) })
	j := i
	for ; j < len(s) && s[j].from <= to+1; j++ {
		from, to = min(from, s[j].from), max(to, s[j].to)
	}
	return slices.Replace(s, i, j, span{from, to})
}

// end is the last sequence of all; 0 if there is none.
func (s spans) end() uint64 {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1].to
}

// within returns the first sequence of the range that is in the spans.
func (s spans) within(from, to uint64) (sequence uint64, ok bool) {
	i, _ := slices.BinarySearchFunc(s, from, func(a span, from uint64) int { return cmp.Compare(a.to, from) })
	if i == len(s) || s[i].from > to {
		return 0, false
	}
	return max(from, s[i].from), true
}
