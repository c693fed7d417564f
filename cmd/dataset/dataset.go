// Package dataset reads activities from CSV files.
//
// It promises that a row that cannot be read is named by its line and column and
// does not stop the rest; that members and events get the same IDs whenever the
// same file is read (so importing it again adds nothing); and that it reads in
// one pass, with memory for the names of the members only.
package dataset

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/labels"
)

// space is the name space (RFC 9562, version 5) of the UUIDs made here.
var space = uuid.MustParse("6f0a1d2e-8a54-5d8b-9c0e-3b1f7c2d4e5f")

// Columns say where a row's parts stand, by the names in the file's first line.
type Columns struct {
	// Actor, Target and Time are needed. A time is RFC 3339, or seconds since
	// 1970 with or without a fraction.
	Actor, Target, Time string
	// Type is "visit" or "like" for every row, or the column that says so row by
	// row; "visit" if empty.
	Type string
	// Label is the column of a label on the actor, or empty. labels.Bad says which
	// of its values are one.
	Label string
}

// Member is somebody who stands in the file.
type Member struct {
	ID uuid.UUID
	// Name is what the file calls them; JoinedAt is the earliest time at which
	// they appear in what has been read.
	Name     string
	JoinedAt time.Time
}

// Members are those who stand in a file, by name.
type Members map[string]*Member

// Row is one activity.
type Row struct {
	Line   int
	Kind   activity.Kind
	Actor  *Member
	Target *Member
	At     time.Time
	Label  string
}

// ID is the ID of the row's event: it follows from the line's number and what
// stands there.
func (r Row) ID() uuid.UUID {
	return events.DeriveID(space, fmt.Sprintf("%d/%s/%s/%s/%d", r.Line, r.Kind, r.Actor.Name, r.Target.Name, r.At.UnixMicro()))
}

// RowError says what is wrong with one row. The rows after it can be read.
type RowError struct {
	Line    int
	Column  string
	Message string
}

func (e *RowError) Error() string {
	if e.Column == "" {
		return fmt.Sprintf("line %d: %s", e.Line, e.Message)
	}
	return fmt.Sprintf("line %d, column %s: %s", e.Line, e.Column, e.Message)
}

// ColumnError says that the file lacks a column that was asked for.
type ColumnError struct {
	Flag, Column string
	Columns      []string
}

func (e *ColumnError) Error() string {
	if e.Column == "" {
		return fmt.Sprintf("--%s: is missing; the file has the columns %s", e.Flag, strings.Join(e.Columns, ", "))
	}
	return fmt.Sprintf("--%s: the file has no column %q; it has %s", e.Flag, e.Column, strings.Join(e.Columns, ", "))
}

// Reader reads rows.
type Reader struct {
	csv     *csv.Reader
	columns Columns
	at      struct{ actor, target, time, kind, label int }
	kind    activity.Kind // of every row, unless at.kind says where
	members Members
}

// NewReader reads the first line and finds the columns. A column that is not
// there gives a ColumnError. Who appears in a row is looked up in, or added to,
// members.
func NewReader(r io.Reader, columns Columns, members Members) (*Reader, error) {
	c := csv.NewReader(r)
	c.FieldsPerRecord = -1
	c.ReuseRecord = true
	header, err := c.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty; its first line must name the columns")
	}
	if err != nil {
		return nil, fmt.Errorf("read the line with the columns' names: %w", err)
	}
	header = slices.Clone(header)
	header[0] = strings.TrimPrefix(header[0], "\ufeff")
	d := &Reader{csv: c, columns: columns, members: members}
	find := func(flag, column string, at *int) {
		if *at = slices.Index(header, column); *at < 0 && err == nil {
			err = &ColumnError{Flag: flag, Column: column, Columns: header}
		}
	}
	find("actor", columns.Actor, &d.at.actor)
	find("target", columns.Target, &d.at.target)
	find("time", columns.Time, &d.at.time)
	d.at.kind, d.at.label = -1, -1
	switch columns.Type {
	case "", string(activity.Visit):
		d.kind = activity.Visit
	case string(activity.Like):
		d.kind = activity.Like
	default:
		find("type", columns.Type, &d.at.kind)
	}
	if columns.Label != "" {
		find("label", columns.Label, &d.at.label)
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Next returns the next row, io.EOF after the last, a *RowError for a row that
// cannot be read, or the reader's error.
func (d *Reader) Next() (Row, error) {
	record, err := d.csv.Read()
	var malformed *csv.ParseError
	if errors.As(err, &malformed) {
		return Row{}, &RowError{Line: malformed.Line, Message: malformed.Err.Error()}
	}
	if err != nil {
		return Row{}, err
	}
	line, _ := d.csv.FieldPos(0)
	row := Row{Line: line, Kind: d.kind}
	fault := func(column, format string, args ...any) (Row, error) {
		return Row{}, &RowError{Line: line, Column: column, Message: fmt.Sprintf(format, args...)}
	}
	if need := max(d.at.actor, d.at.target, d.at.time, d.at.kind, d.at.label); need >= len(record) {
		return fault("", "it has %d fields, at least %d are needed", len(record), need+1)
	}
	actor, target := nameOf(record[d.at.actor]), nameOf(record[d.at.target])
	switch {
	case actor == "":
		return fault(d.columns.Actor, "is empty")
	case target == "":
		return fault(d.columns.Target, "is empty")
	case actor == nobody:
		return fault(d.columns.Actor, "is the nil UUID, which is nobody's")
	case target == nobody:
		return fault(d.columns.Target, "is the nil UUID, which is nobody's")
	case actor == target:
		return fault(d.columns.Target, "is the actor: nobody visits or likes themselves")
	}
	if row.At, err = parseTime(record[d.at.time]); err != nil {
		return fault(d.columns.Time, "%v", err)
	}
	if d.at.kind >= 0 {
		switch k := activity.Kind(record[d.at.kind]); k {
		case activity.Visit, activity.Like, activity.Unlike:
			row.Kind = k
		default:
			return fault(d.columns.Type, "%q is not visit, like or unlike", k)
		}
	}
	if d.at.label >= 0 {
		if v := record[d.at.label]; labels.Bad(v) {
			if err := (labels.Label{User: MemberID(actor), At: row.At, Label: v}).Validate(); err != nil {
				return fault(d.columns.Label, "%v", err)
			}
			row.Label = v
		}
	}
	row.Actor, row.Target = d.member(actor, row.At), d.member(target, row.At)
	return row, nil
}

func (d *Reader) member(name string, at time.Time) *Member {
	m, ok := d.members[name]
	if !ok {
		name = strings.Clone(name)
		m = &Member{ID: MemberID(name), Name: name, JoinedAt: at}
		d.members[name] = m
	}
	if at.Before(m.JoinedAt) {
		m.JoinedAt = at
	}
	return m
}

// nobody is the name of a member that cannot be.
const nobody = "00000000-0000-0000-0000-000000000000"

// nameOf is what a member is called here: UUIDs are the same however they are
// written, other names are what they are.
func nameOf(field string) string {
	if len(field) == len(nobody) {
		if id, err := uuid.Parse(field); err == nil {
			return id.String()
		}
	}
	return field
}

// MemberID is the ID of the member that a file calls name: the name itself if it
// is a UUID, else one that follows from it.
func MemberID(name string) uuid.UUID {
	if len(name) == len(nobody) {
		if id, err := uuid.Parse(name); err == nil {
			return id
		}
	}
	return events.DeriveID(space, "member/"+name)
}

// earliest and latest bound a time: whole years that RFC 3339 can write.
var (
	earliest = time.Unix(0, 0)
	latest   = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
)

func parseTime(s string) (time.Time, error) {
	var t time.Time
	if whole, err := strconv.ParseInt(s, 10, 64); err == nil && whole >= 0 && whole <= latest.Unix() {
		t = time.Unix(whole, 0)
	} else if seconds, err := strconv.ParseFloat(s, 64); err == nil && seconds >= 0 && seconds <= float64(latest.Unix()) {
		whole, fraction := math.Modf(seconds)
		t = time.Unix(int64(whole), int64(math.Round(fraction*1e6))*1000)
	} else if t, err = time.Parse(time.RFC3339Nano, s); err != nil {
		return t, fmt.Errorf("%q is neither RFC 3339 nor seconds since 1970", s)
	}
	if t.Before(earliest) || t.After(latest) {
		return t, fmt.Errorf("%q is not between 1970 and 9999", s)
	}
	return t.UTC().Truncate(time.Microsecond), nil
}
