package fraud

import (
	"cmp"
	"slices"

	"github.com/meet5/backend/fraud/register"
)

// ruleVersion names a rule's version.
type ruleVersion struct{ rule, version string }

func (r planned) name() ruleVersion { return ruleVersion{r.ID, r.version} }

// stretch is the events of a partition after one up to another.
type stretch struct{ after, until uint64 }

// worked is, by version, where in a partition flags have been raised: what was handled
// while a plan had them raised there. A span alone does not say so. It may end, and
// another begin where it ended, while nothing happens: what is in the second may have
// been handled when only the first was known.
type worked map[ruleVersion][]stretch

// add takes in the spans of a plan, up to an event of the partition.
func (w worked) add(p *plan, partition int, until uint64) {
	for _, list := range [][]planned{p.rules, p.past} {
		for _, r := range list {
			for _, s := range r.spans {
				w.put(r.name(), stretch{s.Begin(partition), min(s.End(partition), until)})
			}
		}
	}
}

// put takes in a stretch, joined with those that it meets.
func (w worked) put(name ruleVersion, one stretch) {
	if one.after >= one.until {
		return
	}
	list := append(slices.Clip(w[name]), one)
	slices.SortFunc(list, func(a, b stretch) int { return cmp.Compare(a.after, b.after) })
	joined := list[:1]
	for _, s := range list[1:] {
		if last := &joined[len(joined)-1]; s.after <= last.until {
			last.until = max(last.until, s.until)
		} else {
			joined = append(joined, s)
		}
	}
	w[name] = joined
}

// holds says whether an event has been worked on for a version.
func (w worked) holds(name ruleVersion, sequence uint64) bool {
	return slices.ContainsFunc(w[name], func(s stretch) bool { return s.after < sequence && sequence <= s.until })
}

// covers says whether a whole stretch has.
func (w worked) covers(name ruleVersion, one stretch) bool {
	return one.after >= one.until || slices.ContainsFunc(w[name], func(s stretch) bool { return s.after <= one.after && one.until <= s.until })
}

func (w worked) clone() worked {
	c := make(worked, len(w))
	for name, list := range w {
		c[name] = slices.Clone(list)
	}
	return c
}

// workedCuts is, by version, in which spans flags have been raised up to which cut.
type workedCuts map[ruleVersion][]workedSpan

type workedSpan struct {
	register.Span
	cut uint64
}

// add takes in the spans of a plan, up to a cut.
func (w workedCuts) add(p *plan, cut uint64) {
	for _, list := range [][]planned{p.rules, p.past} {
		for _, r := range list {
			for _, s := range r.spans {
				i := slices.IndexFunc(w[r.name()], func(k workedSpan) bool {
					return slices.Equal(k.After, s.After) && slices.Equal(k.Until, s.Until) && (k.Until == nil) == (s.Until == nil)
				})
				if i < 0 {
					i = len(w[r.name()])
					w[r.name()] = append(w[r.name()], workedSpan{Span: s})
				}
				w[r.name()][i].cut = max(w[r.name()][i].cut, cut)
			}
		}
	}
}

// holds says whether an event in a cut has been worked on for a version.
func (w workedCuts) holds(name ruleVersion, partition int, sequence, cut uint64) bool {
	return slices.ContainsFunc(w[name], func(s workedSpan) bool { return cut <= s.cut && s.Holds(partition, sequence) })
}
