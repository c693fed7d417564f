package flag

import "time"

// run is what is left of a list, from one end to the other.
type run struct {
	list *ordered
	at   at
	back bool // the latest first
}

// merge yields the flags of several lists in one order by time.
type merge struct {
	runs []run // a heap: the run whose flag is next is the first
	back bool
	// since and until bound the flags' times; unbounded if zero.
	since, until time.Time
}

// add puts in the flags of a list that come behind one, which is within the bounds;
// all of them if it is nil.
func (m *merge) add(list *ordered, after *Flag) {
	r := run{list: list, back: m.back}
	switch {
	case m.back && after != nil:
		r.at = list.before(list.seek(after))
	case m.back && !m.until.IsZero():
		r.at = list.before(list.seek(&Flag{RaisedAt: m.until}))
	case m.back:
		r.at = list.before(list.end())
	case after != nil:
		r.at = list.seek(after)
		if f := list.get(r.at); f != nil && byTime(f, after) == 0 {
			r.at = list.next(r.at)
		}
	case !m.since.IsZero():
		r.at = list.seek(&Flag{RaisedAt: m.since})
	}
	if m.within(r.flag()) {
		m.runs = append(m.runs, r)
		m.up(len(m.runs) - 1)
	}
}

// next returns the next flag, nil behind the last.
func (m *merge) next() *Flag {
	if len(m.runs) == 0 {
		return nil
	}
	r := &m.runs[0]
	f := r.flag()
	if r.step(); !m.within(r.flag()) {
		last := len(m.runs) - 1
		m.runs[0] = m.runs[last]
		m.runs = m.runs[:last]
	}
	m.down()
	return f
}

func (r *run) flag() *Flag { return r.list.get(r.at) }

func (r *run) step() {
	if r.back {
		r.at = r.list.before(r.at)
	} else {
		r.at = r.list.next(r.at)
	}
}

// within says whether there is a flag and it has not come to the bound that lies
// ahead.
func (m *merge) within(f *Flag) bool {
	switch {
	case f == nil:
		return false
	case m.back:
		return m.since.IsZero() || !f.RaisedAt.Before(m.since)
	default:
		return m.until.IsZero() || f.RaisedAt.Before(m.until)
	}
}

func (m *merge) less(i, j int) bool {
	c := byTime(m.runs[i].flag(), m.runs[j].flag())
	if m.back {
		return c > 0
	}
	return c < 0
}

func (m *merge) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !m.less(i, parent) {
			return
		}
		m.runs[i], m.runs[parent] = m.runs[parent], m.runs[i]
		i = parent
	}
}

func (m *merge) down() {
	for i := 0; ; {
		child := 2*i + 1
		if child+1 < len(m.runs) && m.less(child+1, child) {
			child++
		}
		if child >= len(m.runs) || !m.less(child, i) {
			return
		}
		m.runs[i], m.runs[child] = m.runs[child], m.runs[i]
		i = child
	}
}
