package fraud

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/register"
	"github.com/meet5/backend/fraud/rule"
)

// plan is what engines are to run, by the register at a revision.
type plan struct {
	revision uint64
	rules    []planned // sorted by ID
	// past are versions that raise flags no more, but did, somewhere in the activity
	// log. An instance that has not been there yet needs them.
	past []planned
	// left are the rules that should run and cannot, with the reason.
	left map[string]error
}

// planned is a rule's version that is to run.
type planned struct {
	rule.Rule
	version string
	spans   []register.Span // where its hits raise flags
}

// planRules makes a plan of what the log says of the rules.
func (s *Service) planRules() *plan {
	known, revision := s.rules.All()
	p := &plan{revision: revision}
	p.choose(known)
	for id, err := range p.left {
		s.deps.Logger.Warn("a rule does not run", "rule", id, "error", err)
	}
	for _, k := range known {
		runs := slices.ContainsFunc(p.rules, func(r planned) bool { return r.ID == k.ID })
		var done []string
		for _, span := range k.Spans {
			if runs && span.Version == k.Current().Hash || slices.Contains(done, span.Version) {
				continue
			}
			done = append(done, span.Version)
			r, err := k.Read(span.Version)
			if err == nil {
				err = engine.Check([]rule.Rule{r})
			}
			if err != nil {
				s.deps.Logger.Warn("a version of a rule cannot be read: what it should raise where it was live is left to instances that can",
					"rule", k.ID, "version", span.Version, "error", err)
				continue
			}
			p.past = append(p.past, planned{r, span.Version, spansOf(k, span.Version)})
		}
	}
	return p
}

// choose takes the rules that are to run. The register lets no more through than can
// run; should the log hold more all the same, of two changes at once or of a build with
// other bounds, live rules come first, and then the order of their IDs.
func (p *plan) choose(known []register.Rule) {
	var specs []rule.Rule
	fits := func(k register.Rule) error {
		if len(specs) >= register.MaxRunning {
			return fmt.Errorf("%d rules run already, and at most that many can", register.MaxRunning)
		}
		return register.Fit(append(slices.Clip(specs), k.Spec))
	}
	if all := running(known); len(all) <= register.MaxRunning && register.Fit(all) == nil {
		fits = func(register.Rule) error { return nil } // so it is nearly always
	}
	for _, mode := range []rule.Mode{rule.Live, rule.Shadow} {
		for _, k := range known {
			if !k.Runs() || k.Mode != mode {
				continue
			}
			if err := fits(k); err != nil {
				if p.left == nil {
					p.left = make(map[string]error)
				}
				p.left[k.ID] = err
				continue
			}
			specs = append(specs, k.Spec)
			p.rules = append(p.rules, planned{k.Spec, k.Current().Hash, spansOf(k, k.Current().Hash)})
		}
	}
	slices.SortFunc(p.rules, func(a, b planned) int { return cmp.Compare(a.ID, b.ID) })
}

// running are the rules that should run.
func running(known []register.Rule) (specs []rule.Rule) {
	for _, k := range known {
		if k.Runs() {
			specs = append(specs, k.Spec)
		}
	}
	return specs
}

func spansOf(k register.Rule, version string) (spans []register.Span) {
	for _, s := range k.Spans {
		if s.Version == version {
			spans = append(spans, s)
		}
	}
	return spans
}

// part is what a plan says of rules that need the one order of all partitions, or of the
// others.
func (p *plan) part(ordered bool) *plan {
	others := func(r planned) bool { return r.Ordered() != ordered }
	return &plan{
		revision: p.revision,
		rules:    slices.DeleteFunc(slices.Clone(p.rules), others), past: slices.DeleteFunc(slices.Clone(p.past), others),
	}
}

// print is equal for plans that want the same run, and raised in the same places.
func (p *plan) print() string {
	var b strings.Builder
	for _, list := range [][]planned{p.rules, p.past} {
		for _, r := range list {
			fmt.Fprintf(&b, "%s %s %s %v\n", r.ID, r.version, r.Mode, r.spans)
		}
		b.WriteString("--\n")
	}
	return b.String()
}

// crew is the engines of a partition, or of all of them together.
type crew []*runner

// runner is one of them. The first runs what is live or in shadow. The rest are there
// while the crew has not come to where a past version ceased to raise flags: one each,
// since an engine has room for one version of a rule.
type runner struct {
	engine *engine.Engine
	spans  map[string][]register.Span // by rule
	last   uint64                     // the last event of its partition that matters to it
}

// newCrew makes a partition's engines, with nothing counted yet, for the rules that need
// no other partition's events. Of past versions it takes those with a span that is
// needed.
func newCrew(users *engine.Users, p *plan, partition int, needed func(ruleVersion, register.Span) bool) (crew, error) {
	last := func(r planned) (last uint64) {
		for _, s := range r.spans {
			if needed(r.name(), s) {
				last = max(last, s.End(partition))
			}
		}
		return last
	}
	return p.part(false).crew(last, func(rules []rule.Rule) (*engine.Engine, error) { return engine.NewByActor(users, rules) })
}

// crew makes the engines of a part of a plan: of past versions those for which last is
// not 0.
func (p *plan) crew(last func(planned) uint64, newEngine func([]rule.Rule) (*engine.Engine, error)) (crew, error) {
	all := &runner{last: 1<<64 - 1, spans: make(map[string][]register.Span, len(p.rules))}
	specs := make([]rule.Rule, len(p.rules))
	for i, r := range p.rules {
		specs[i], all.spans[r.ID] = r.Rule, r.spans
	}
	var err error
	if all.engine, err = newEngine(specs); err != nil {
		return nil, err
	}
	c := crew{all}
	for _, r := range p.past {
		run := &runner{last: last(r), spans: map[string][]register.Span{r.ID: r.spans}}
		if run.last == 0 {
			continue
		}
		if run.engine, err = newEngine([]rule.Rule{r.Rule}); err != nil {
			return nil, err
		}
		c = append(c, run)
	}
	return c, nil
}

// raises says whether the plan has a hit of the runner's raise a flag. The register
// has the last word.
func (r *runner) raises(h engine.Hit) bool {
	return slices.ContainsFunc(r.spans[h.Rule.ID], func(s register.Span) bool { return s.Holds(h.Position.Partition, h.Position.Sequence) })
}

// counted is the last event that the crew has seen.
func (c crew) counted() uint64 { return c[0].engine.Last() }
