package chaos

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/meet5/backend/cmd/history"
)

// Result is what came of one run.
type Result struct {
	Fault string `json:"fault"`
	Seed  uint64 `json:"seed"`
	// Requests counts what clients sent; the others count what they asked for in
	// it: activities, accounts and changes of a profile. What was unknown was
	// asked for again.
	Requests     int64 `json:"requests"`
	Acknowledged int64 `json:"acknowledged"`
	Refused      int64 `json:"refused"`
	Unknown      int64 `json:"unknown"`
	// Fresh is how long it took, from the moment when the fault was healed, until
	// a visit posted then was seen and everything had caught up; Unseen is the
	// longest time that any visit was not seen. Nanoseconds, as Took, which is the
	// whole run.
	Fresh  time.Duration `json:"fresh_ns"`
	Last   string        `json:"fresh_last"` // what took the longest to be fresh
	Unseen time.Duration `json:"unseen_ns"`
	Took   time.Duration `json:"took_ns"`
	// PeakMemory is the most resident memory of any program, in bytes, 0 where it
	// cannot be told; Growth is the most that one grew by during the run.
	PeakMemory int64  `json:"peak_memory"`
	PeakOf     string `json:"peak_of"`
	Growth     int64  `json:"memory_growth"`
	// Violations are the broken promises, and Tails is what the programs said last
	// if there are any.
	Violations []history.Violation `json:"violations"`
	Tails      string              `json:"-"`
}

// lost, repeated, disordered and others count the violations by what they mean.
func (r Result) lost() int { return count(r.Violations, history.Lost, history.Undelivered) }

func (r Result) repeated() int { return count(r.Violations, history.Repeated, history.Redelivered) }

func (r Result) disordered() int {
	return count(r.Violations, history.Disordered, history.Sparse, history.Gap)
}

func (r Result) others() int {
	all := 0
	for _, v := range r.Violations {
		all += 1 + v.More
	}
	return all - r.lost() - r.repeated() - r.disordered()
}

func count(vs []history.Violation, rules ...history.Rule) (n int) {
	for _, rule := range rules {
		n += history.Count(vs, rule)
	}
	return n
}

// String is a line about the run, and one block a violation.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, seed %d: %d requests, %d acknowledged, %d refused, %d unknown; fresh again after %s (%s), at most %s unseen; %s",
		r.Fault, r.Seed, r.Requests, r.Acknowledged, r.Refused, r.Unknown, seconds(r.Fresh), r.Last, seconds(r.Unseen), verdict(len(r.Violations)))
	for _, v := range r.Violations {
		b.WriteString("\n" + v.String())
	}
	if r.Tails != "" {
		b.WriteString("\n" + r.Tails)
	}
	return b.String()
}

func verdict(violations int) string {
	if violations == 0 {
		return "every promise held"
	}
	return fmt.Sprintf("%d PROMISES BROKEN", violations)
}

// Report is the results of a matrix, in the order of the runs.
type Report struct {
	Results []Result `json:"results"`
}

func (r *Report) add(result Result) { r.Results = append(r.Results, result) }

// Violations counts the broken promises of all runs.
func (r Report) Violations() (n int) {
	for _, result := range r.Results {
		n += len(result.Violations)
	}
	return n
}

// WriteTable writes a row for each fault, as Markdown.
func (r Report) WriteTable(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| fault | runs | requests | acknowledged | refused | unknown | lost | repeated | out of order | other violations | fresh again, p50 | max | longest unseen | peak memory | most growth |\n")
	b.WriteString("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, row := range r.rows() {
		t := row.total
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d | %d | %d | %d | %s | %s | %s | %s | %s |\n",
			t.Fault, row.runs, t.Requests, t.Acknowledged, t.Refused, t.Unknown, t.lost(), t.repeated(), t.disordered(), t.others(),
			seconds(row.median()), seconds(row.fresh[len(row.fresh)-1]), seconds(t.Unseen), megabytes(t.PeakMemory, t.PeakOf), megabytes(t.Growth, ""))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// row sums up the runs of one fault.
type row struct {
	runs  int
	total Result
	fresh []time.Duration // sorted
}

func (r Report) rows() (rows []*row) {
	for _, result := range r.Results {
		i := slices.IndexFunc(rows, func(r *row) bool { return r.total.Fault == result.Fault })
		if i < 0 {
			i = len(rows)
			rows = append(rows, &row{total: Result{Fault: result.Fault}})
		}
		rows[i].add(result)
	}
	return rows
}

func (r *row) add(one Result) {
	r.runs++
	t := &r.total
	t.Requests += one.Requests
	t.Acknowledged += one.Acknowledged
	t.Refused += one.Refused
	t.Unknown += one.Unknown
	t.Unseen = max(t.Unseen, one.Unseen)
	t.Growth = max(t.Growth, one.Growth)
	if one.PeakMemory > t.PeakMemory {
		t.PeakMemory, t.PeakOf = one.PeakMemory, one.PeakOf
	}
	t.Violations = append(t.Violations, one.Violations...)
	r.fresh = append(r.fresh, one.Fresh)
	slices.Sort(r.fresh)
}

// median is the lower one of an even number.
func (r *row) median() time.Duration { return r.fresh[(len(r.fresh)-1)/2] }

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func megabytes(bytes int64, of string) string {
	if bytes == 0 {
		return "–"
	}
	if of != "" {
		of = " (" + strings.Fields(of)[0] + ")"
	}
	return fmt.Sprintf("%d MB%s", bytes>>20, of)
}
