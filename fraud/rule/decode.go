package rule

import (
	"fmt"
	"slices"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// decoder turns a syntax tree into a rule. It notes every fault and where each
// field stands, and goes on.
type decoder struct {
	faults Faults
	places map[string]*token.Position
	meant  []string // the fields that mistyped ones were probably meant to be
}

// field is a field of a mapping and what reads its value.
type field struct {
	name string
	read func(n ast.Node, path string)
}

func (d *decoder) rule(n ast.Node) (r Rule) {
	r.Mode, r.Key, r.Effect = Draft, KeyActor, Flag
	d.mapping(n, "", "a rule", []field{
		{"id", text(d, &r.ID)},
		{"title", text(d, &r.Title)},
		{"description", text(d, &r.Description)},
		{"key", text(d, &r.Key)},
		{"events", d.list(func(n ast.Node, path string) {
			var k Kind
			text(d, &k)(n, path)
			r.Events = append(r.Events, k)
		})},
		{"where", func(n ast.Node, path string) { r.Where = d.where(n, path) }},
		{"window", func(n ast.Node, path string) {
			d.mapping(n, path, "a window", []field{
				{"sliding", d.duration(&r.Window.Sliding)},
				{"since_account_creation", d.duration(&r.Window.SinceAccountCreation)},
				{"since_first_event", d.duration(&r.Window.SinceFirstEvent)},
			})
		}},
		{"aggregate", text(d, &r.Aggregate)},
		{"reading", text(d, &r.Reading)},
		{"ratio", func(n ast.Node, path string) { r.Ratio = d.ratio(n, path) }},
		{"sequence", func(n ast.Node, path string) { r.Sequence = d.sequence(n, path) }},
		{"regularity", func(n ast.Node, path string) { r.Regularity = d.regularity(n, path) }},
		{"lockstep", func(n ast.Node, path string) { r.Lockstep = d.lockstep(n, path) }},
		{"threshold", d.integer(&r.Threshold)},
		{"score", d.integer(&r.Score)},
		{"effect", text(d, &r.Effect)},
		{"time_to_live", d.duration(&r.TimeToLive)},
		{"mode", text(d, &r.Mode)},
		{"cases", d.list(func(n ast.Node, path string) { r.Cases = append(r.Cases, d.testCase(n, path)) })},
	})
	if d.places[""] == nil { // no mapping: there is nothing else to say
		return r
	}
	if r.Aggregate == PairedDistinct && r.Reading == "" {
		r.Reading = Both
	}
	d.required(n, "threshold", fmt.Sprintf("is missing; it must be from 1 to %d", MaxThreshold))
	d.required(n, "score", fmt.Sprintf("is missing; it must be from 0 to %d", MaxScore))
	return r
}

func (d *decoder) where(n ast.Node, path string) (w Where) {
	d.mapping(n, path, "conditions", []field{
		{"account_age", func(n ast.Node, path string) {
			d.mapping(n, path, "bounds of an age", []field{
				{"at_least", d.duration(&w.AccountAge.AtLeast)},
				{"below", d.duration(&w.AccountAge.Below)},
			})
			d.given(n, path, w.AccountAge == Age{}, "bounds nothing; give at_least, below or both")
		}},
		{"hour", func(n ast.Node, path string) {
			d.mapping(n, path, "hours of the day", []field{
				{"from", d.integer(&w.Hour.From)},
				{"until", d.integer(&w.Hour.Until)},
			})
			d.given(n, path, w.Hour == Hours{}, "bounds nothing; give from and until, hours of the day in UTC")
		}},
		{"target", text(d, &w.Target)},
	})
	d.given(n, path, w == Where{}, "says nothing; leave it out")
	return w
}

func (d *decoder) ratio(n ast.Node, path string) *Ratio {
	r := &Ratio{}
	d.mapping(n, path, "a ratio", []field{
		{"of", text(d, &r.Of)},
		{"per", text(d, &r.Per)},
		{"volume", d.integer(&r.Volume)},
	})
	return r
}

func (d *decoder) sequence(n ast.Node, path string) *Sequence {
	s := &Sequence{}
	d.mapping(n, path, "a sequence", []field{
		{"first", text(d, &s.First)},
		{"then", text(d, &s.Then)},
		{"within", d.duration(&s.Within)},
	})
	return s
}

func (d *decoder) regularity(n ast.Node, path string) *Regularity {
	r := &Regularity{}
	d.mapping(n, path, "a regularity", []field{{"variation", d.integer(&r.Variation)}})
	d.required(n, path+".variation", fmt.Sprintf("is missing; it must be from 0 to %d, in percent", maxVariation))
	return r
}

func (d *decoder) lockstep(n ast.Node, path string) *Lockstep {
	l := &Lockstep{}
	d.mapping(n, path, "a lockstep", []field{{"targets", d.integer(&l.Targets)}})
	d.required(n, path+".targets", fmt.Sprintf("is missing; it must be from %d to %d", minLock, maxLockTargets))
	return l
}

// given notes a mapping in which nothing is said.
func (d *decoder) given(n ast.Node, path string, nothing bool, message string) {
	if nothing && !d.faulty(path) {
		d.fail(n, path, message)
	}
}

// required notes a field that is not there and whose absence its value cannot
// tell.
func (d *decoder) required(n ast.Node, path, message string) {
	if d.places[path] == nil && !d.faulty(path) {
		d.fail(n, path, message)
	}
}

func (d *decoder) testCase(n ast.Node, path string) (c Case) {
	d.mapping(n, path, "a case", []field{
		{"name", text(d, &c.Name)},
		{"account_age", d.duration(&c.AccountAge)},
		{"history", d.list(func(n ast.Node, path string) { c.History = append(c.History, d.step(n, path)) })},
		{"expect", func(n ast.Node, path string) { c.Expect = d.expect(n, path) }},
	})
	d.required(n, path+".expect", "is missing; it must be silent or {fires_at: …}")
	return c
}

func (d *decoder) step(n ast.Node, path string) Step {
	s := Step{Targets: 1, First: 1}
	d.mapping(n, path, "a step", []field{
		{"at", d.duration(&s.At)},
		{"type", text(d, &s.Type)},
		{"targets", d.integer(&s.Targets)},
		{"first", d.integer(&s.First)},
		{"times", d.integer(&s.Times)},
		{"every", d.duration(&s.Every)},
		{"actors", d.positive(&s.Actors)},
		{"first_actor", d.positive(&s.FirstActor)},
	})
	if _, given := d.places[path+".times"]; !given {
		s.Times = s.Targets
	}
	return s
}

func (d *decoder) expect(n ast.Node, path string) (e Expect) {
	if s, ok := n.(*ast.StringNode); ok {
		if s.Value != silent {
			d.fail(n, path, "must be silent or {fires_at: …}, not "+quote(s.Value))
		}
		return e
	}
	one := func(n ast.Node, path string) {
		var at Duration
		d.duration(&at)(n, path)
		e.FiresAt = append(e.FiresAt, at)
	}
	d.mapping(n, path, "silent or {fires_at: …}", []field{
		{"fires_at", func(n ast.Node, path string) {
			if _, many := n.(*ast.SequenceNode); many {
				d.list(one)(n, path)
			} else {
				one(n, path+"[0]")
			}
			if len(e.FiresAt) == 0 {
				d.fail(n, path, "lists no time; write expect: silent instead")
			}
		}},
	})
	return e
}

func (d *decoder) fail(n ast.Node, path, message string) {
	f := faultAt(n.GetToken().Position, message)
	f.Field = path
	d.faults = append(d.faults, f)
}

// mapping reads a mapping with these fields, each at most once and no other.
func (d *decoder) mapping(n ast.Node, path, what string, fields []field) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.fail(n, path, "must be "+what+" with fields, not "+kindOf(n))
		return
	}
	if _, taken := d.places[path]; !taken {
		d.places[path] = start(n)
	}
	for it := m.MapRange(); it.Next(); {
		name, plain := it.Key().(ast.ScalarNode)
		if !plain {
			d.fail(it.Key(), path, "a field's name must be a plain word")
			continue
		}
		key := name.GetToken().Value
		at := path + "." + key
		if path == "" {
			at = key
		}
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == key })
		if i < 0 {
			message := quote(key) + " is not a field of " + what
			if near := nearest(key, fields); near != "" {
				message += "; did you mean " + near + "?"
				d.meant = append(d.meant, at[:len(at)-len(key)]+near)
			}
			d.fail(it.Key(), path, message)
			continue
		}
		if _, twice := d.places[at]; twice {
			d.fail(it.Key(), at, "is there twice")
			continue
		}
		d.places[at] = start(it.Value())
		fields[i].read(it.Value(), at)
	}
}

// start is where a value begins: of a mapping, its first name, since its own
// token is the colon after that.
func start(n ast.Node) *token.Position {
	if m, ok := n.(ast.MapNode); ok {
		if mapping, ok := n.(*ast.MappingNode); !ok || !mapping.IsFlowStyle {
			if it := m.MapRange(); it.Next() {
				return it.Key().GetToken().Position
			}
		}
	}
	return n.GetToken().Position
}

func (d *decoder) list(each func(n ast.Node, path string)) func(ast.Node, string) {
	return func(n ast.Node, path string) {
		s, ok := n.(*ast.SequenceNode)
		if !ok {
			d.fail(n, path, "must be a list, not "+kindOf(n))
			return
		}
		for i, v := range s.Values {
			at := fmt.Sprintf("%s[%d]", path, i)
			d.places[at] = start(v)
			each(v, at)
		}
	}
}

func text[T ~string](d *decoder, into *T) func(ast.Node, string) {
	return func(n ast.Node, path string) {
		switch v := n.(type) {
		case *ast.StringNode:
			*into = T(v.Value)
		case *ast.LiteralNode:
			*into = T(v.Value.Value)
		default:
			d.fail(n, path, "must be a text, not "+kindOf(n))
		}
	}
}

func (d *decoder) integer(into *int) func(ast.Node, string) {
	return func(n ast.Node, path string) {
		if v, ok := n.(*ast.IntegerNode); ok {
			switch i := v.Value.(type) {
			case int64:
				*into = int(i)
				return
			case uint64:
				if i <= 1<<62 {
					*into = int(i)
					return
				}
			}
		}
		d.fail(n, path, "must be a whole number, not "+kindOf(n))
	}
}

// positive reads a number of which 0 says that it was left out.
func (d *decoder) positive(into *int) func(ast.Node, string) {
	return func(n ast.Node, path string) {
		d.integer(into)(n, path)
		if *into == 0 && !d.faulty(path) {
			d.fail(n, path, "must be at least 1; leave it out for 1")
		}
	}
}

func (d *decoder) duration(into *Duration) func(ast.Node, string) {
	return func(n ast.Node, path string) {
		v, ok := n.(*ast.StringNode)
		if !ok {
			d.fail(n, path, "must be a length of time such as 90s, 10m, 1h30m or 30d, not "+kindOf(n))
			return
		}
		parsed, err := parseDuration(v.Value)
		if err != nil {
			d.fail(n, path, err.Error())
			return
		}
		*into = parsed
	}
}

// kindOf names a value for a fault.
func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		return "a text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + quote(n.GetToken().Value)
	case *ast.BoolNode:
		return n.GetToken().Value
	case *ast.NullNode:
		return "nothing"
	case *ast.SequenceNode:
		return "a list"
	case ast.MapNode:
		return "a mapping"
	case *ast.TagNode:
		return "something with a tag"
	}
	return "this"
}

// nearest is the field whose name is at most two letters away from a mistyped
// one.
func nearest(mistyped string, fields []field) (name string) {
	const most = 2
	if len(mistyped) > maxID {
		return ""
	}
	least := most + 1
	for _, f := range fields {
		if n := distance(mistyped, f.name); n < least && n < len(f.name) {
			least, name = n, f.name
		}
	}
	return name
}

// distance is the Levenshtein distance of two words, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
