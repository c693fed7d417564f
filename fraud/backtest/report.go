package backtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/evidence"
	"github.com/meet5/backend/fraud/rule"
)

// Report is what a backtest found.
type Report struct {
	Log   string     `json:"log"`
	Since *time.Time `json:"since,omitempty"`
	Until *time.Time `json:"until,omitempty"`
	// Events are the visits, likes and withdrawn likes within the period.
	Events uint64 `json:"events"`
	// Whole is about all that was worked through, within the period or not.
	Whole engine.Stats `json:"whole"`
	Rules []RuleReport `json:"rules"`
}

// RuleReport is what a backtest found of one rule.
type RuleReport struct {
	Rule    string    `json:"rule"`
	Version string    `json:"version"`
	Title   string    `json:"title"`
	Mode    rule.Mode `json:"mode"`
	// Events are those within the period that the rule listens to.
	Events uint64 `json:"events"`
	Hits   uint64 `json:"hits"`
	// Users is how many different users were hit.
	Users int `json:"users"`
	// Compared is set if there were flags on record to compare with.
	Compared *Comparison `json:"compared,omitempty"`
	// Measured is set if there were labels to measure against.
	Measured *Measure `json:"measured,omitempty"`
	// Flags are the first hits as flags.
	Flags []Flag `json:"flags,omitempty"`
}

// Comparison sets the users that the rule would flag against those with a flag of
// it on record. The lists hold the first of each, sorted.
type Comparison struct {
	Newly         int         `json:"newly"`
	NoLonger      int         `json:"no_longer"`
	Still         int         `json:"still"`
	NewlyUsers    []uuid.UUID `json:"newly_users,omitempty"`
	NoLongerUsers []uuid.UUID `json:"no_longer_users,omitempty"`
}

// Measure sets the users that were hit against those that have a label.
type Measure struct {
	// Labelled are the users with a label who did something within the period,
	// Found those of them that were hit.
	Labelled int `json:"labelled"`
	Found    int `json:"found"`
	// Precision is Found of the users hit, Recall is Found of Labelled: each from
	// 0 to 1, and null where it would be a division by zero.
	Precision *float64 `json:"precision"`
	Recall    *float64 `json:"recall"`
}

// Flag is a flag that the rule raises.
type Flag struct {
	ID       uuid.UUID `json:"id"`
	RaisedAt time.Time `json:"raised_at"`
	// Payload is the data of the event that raises it.
	Payload json.RawMessage `json:"payload"`
}

// report puts together what the partitions found.
func (b *backtest) report(ctx context.Context, runs []partitionRun) (Report, error) {
	r := Report{Log: b.log.Name(), Since: orNil(b.Since), Until: orNil(b.Until)}
	byKind := make(map[rule.Kind]uint64)
	labelled := 0
	for _, run := range runs {
		for kind, n := range run.events {
			byKind[kind] += n
			r.Events += n
		}
		labelled += len(run.labelled) // an actor has one partition
		r.Whole.Events += run.stats.Events
		r.Whole.Activities += run.stats.Activities
		r.Whole.Unreadable += run.stats.Unreadable
		r.Whole.Backwards += run.stats.Backwards
		r.Whole.Forgotten += run.stats.Forgotten
		r.Whole.Keys += run.stats.Keys
	}
	for i, tried := range b.rules {
		one := RuleReport{Rule: tried.ID, Version: tried.Version(), Title: tried.Title, Mode: tried.Mode}
		for _, kind := range tried.Events {
			one.Events += byKind[kind]
		}
		users := make(map[uuid.UUID]struct{})
		var first []engine.Hit
		for _, run := range runs {
			one.Hits += run.rules[i].hits
			for u := range run.rules[i].users {
				users[u] = struct{}{}
			}
			first = append(first, run.rules[i].first...)
		}
		one.Users = len(users)
		if b.Flagged != nil {
			one.Compared = compare(users, b.Flagged[tried.ID], b.Sample)
		}
		if b.labelled != nil {
			one.Measured = b.measure(users, labelled)
		}
		var err error
		if one.Flags, err = b.flags(ctx, firstOf(first, b.Sample)); err != nil {
			return Report{}, err
		}
		r.Rules = append(r.Rules, one)
	}
	return r, nil
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func compare(users map[uuid.UUID]struct{}, flagged []uuid.UUID, sample int) *Comparison {
	c := &Comparison{}
	on := make(map[uuid.UUID]struct{}, len(flagged))
	for _, u := range flagged {
		if _, twice := on[u]; twice {
			continue
		}
		on[u] = struct{}{}
		if _, hit := users[u]; hit {
			c.Still++
		} else {
			c.NoLongerUsers = append(c.NoLongerUsers, u)
		}
	}
	for u := range users {
		if _, known := on[u]; !known {
			c.NewlyUsers = append(c.NewlyUsers, u)
		}
	}
	c.Newly, c.NoLonger = len(c.NewlyUsers), len(c.NoLongerUsers)
	c.NewlyUsers, c.NoLongerUsers = firstUsers(c.NewlyUsers, sample), firstUsers(c.NoLongerUsers, sample)
	return c
}

func firstUsers(users []uuid.UUID, most int) []uuid.UUID {
	slices.SortFunc(users, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return users[:min(most, len(users))]
}

func (b *backtest) measure(users map[uuid.UUID]struct{}, labelled int) *Measure {
	m := &Measure{Labelled: labelled}
	for u := range users {
		if b.labelled[u] {
			m.Found++
		}
	}
	m.Precision, m.Recall = ratio(m.Found, len(users)), ratio(m.Found, labelled)
	return m
}

func ratio(n, of int) *float64 {
	if of == 0 {
		return nil
	}
	r := float64(n) / float64(of)
	return &r
}

func (b *backtest) flags(ctx context.Context, hits []engine.Hit) ([]Flag, error) {
	flags := make([]Flag, len(hits))
	for i, h := range hits {
		shown, err := evidence.Read(ctx, b.log, h.Shown())
		if err != nil {
			return nil, err
		}
		e, err := h.Flag(shown)
		if err != nil {
			return nil, err
		}
		flags[i] = Flag{ID: e.Stream, RaisedAt: e.OccurredAt, Payload: e.Data}
	}
	return flags, nil
}

// WriteTable writes the report as a table for people, one rule a line.
func (r Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "RULE\tVERSION\tMODE\tEVENTS\tHITS\tUSERS\tNEW\tGONE\tSTILL\tPRECISION\tRECALL\t")
	for _, one := range r.Rules {
		newly, gone, still, precision, recall := "-", "-", "-", "-", "-"
		if c := one.Compared; c != nil {
			newly, gone, still = strconv.Itoa(c.Newly), strconv.Itoa(c.NoLonger), strconv.Itoa(c.Still)
		}
		if m := one.Measured; m != nil {
			precision, recall = percent(m.Precision), percent(m.Recall)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t\n", one.Rule, one.Version, one.Mode,
			one.Events, one.Hits, one.Users, newly, gone, still, precision, recall)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

func percent(r *float64) string {
	if r == nil {
		return "-"
	}
	return strconv.FormatFloat(100**r, 'f', 1, 64) + " %"
}
