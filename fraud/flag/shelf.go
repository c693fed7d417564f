package flag

// cell is what the flags of one list on a shelf have in common.
type cell struct {
	state State
	rule  string
	score int
}

func (f *Flag) cell() cell { return cell{f.State, f.Rule, f.Score} }

// shelf holds flags in lists by time, one for each cell that has any. A question
// takes the lists of the cells that it asks for and merges them, so that it never
// looks at a flag that it does not want, however rare the others are. There are at
// most as many lists as states times rules times scores of a rule, of which a rule
// has one for each of its versions at the most.
type shelf map[cell]*ordered

func (s shelf) insert(c cell, f *Flag) {
	o := s[c]
	if o == nil {
		o = &ordered{order: byTime}
		s[c] = o
	}
	o.insert(f)
}

func (s shelf) remove(c cell, f *Flag) {
	o := s[c]
	if o == nil {
		return
	}
	if o.remove(f); o.n == 0 {
		delete(s, c)
	}
}
