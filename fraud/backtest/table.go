package backtest

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// WriteTable writes the report as tables for people: one of the rules, one rule a
// line; one of the thresholds, if there are curves; and what both are measured
// against.
func (r Report) WriteTable(w io.Writer) error {
	rows := [][]string{{"RULE", "VERSION", "MODE", "EVENTS", "HITS", "USERS", "VS RUNNING", "VS FLAGS", "PRECISION", "RECALL", "AUC"}}
	for _, one := range r.Rules {
		rows = append(rows, one.cells())
	}
	if len(r.Rules) > 1 {
		precision, recall, auc := r.Together.cells()
		rows = append(rows, []string{"together", "", "", count(r.Events), "", strconv.Itoa(r.Together.Users), "", "", precision, recall, auc})
	}
	if err := writeRows(w, rows); err != nil {
		return err
	}
	if r.hasCurves() {
		rows = [][]string{{"RULE", "THRESHOLD", "HITS", "USERS", "PRECISION", "RECALL"}}
		for _, one := range r.Rules {
			for _, p := range one.Curve.Points {
				rows = append(rows, []string{one.Rule, strconv.Itoa(p.Threshold), count(p.Hits), strconv.Itoa(p.Users), percent(p.Precision), percent(p.Recall)})
			}
		}
		fmt.Fprintln(w)
		if err := writeRows(w, rows); err != nil {
			return err
		}
	}
	if m := r.Together.Measured; m != nil {
		if _, err := fmt.Fprintln(w, m); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	return nil
}

// writeRows writes a table whose columns are flush right.
func writeRows(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, cells := range rows {
		fmt.Fprintln(t, strings.Join(cells, "\t")+"\t")
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// WriteMarkdown writes the table of the rules in Markdown, for a page of
// documentation.
func (r Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| rule | mode | threshold | hits | users | precision | recall | AUC | average precision |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|\n")
	for _, one := range r.Rules {
		precision, recall, auc, average := "-", "-", "-", "-"
		if m := one.Measured; m != nil {
			precision, recall = percent(m.Precision), percent(m.Recall)
		}
		if c := one.Curve; c != nil {
			auc, average = decimal(c.AUC), decimal(c.AveragePrecision)
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %s | %s | %s | %s |\n",
			one.Rule, one.Mode, one.Threshold, one.Hits, one.Users, precision, recall, auc, average)
	}
	for _, s := range []struct {
		name   string
		scores *Scores
	}{{"together, by the highest score", r.Together.Highest}, {"together, by the sum of scores", r.Together.Sum}} {
		if s.scores != nil {
			precision, recall, _ := r.Together.cells()
			fmt.Fprintf(&b, "| %s | | | | %d | %s | %s | %s | %s |\n",
				s.name, r.Together.Users, precision, recall, decimal(s.scores.AUC), decimal(s.scores.AveragePrecision))
		}
	}
	if m := r.Together.Measured; m != nil {
		fmt.Fprintf(&b, "\n%v\n", m)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// cells is the rule's line.
func (r *RuleReport) cells() []string {
	running, flags, precision, recall, auc := "-", "-", "-", "-", "-"
	if v := r.Running; v != nil {
		running = v.String()
	}
	if c := r.OnRecord; c != nil {
		flags = c.String()
	}
	if m := r.Measured; m != nil {
		precision, recall = percent(m.Precision), percent(m.Recall)
	}
	if c := r.Curve; c != nil {
		auc = decimal(c.AUC)
	}
	return []string{r.Rule, r.Version, string(r.Mode), count(r.Events), count(r.Hits), strconv.Itoa(r.Users), running, flags, precision, recall, auc}
}

func (t *Together) cells() (precision, recall, auc string) {
	precision, recall, auc = "-", "-", "-"
	if m := t.Measured; m != nil {
		precision, recall = percent(m.Precision), percent(m.Recall)
	}
	if t.Highest != nil {
		auc = decimal(t.Highest.AUC)
	}
	return precision, recall, auc
}

func (r *Report) hasCurves() bool { return len(r.Rules) > 0 && r.Rules[0].Curve != nil }

// String is the comparison in short: users newly hit, no longer, and still.
func (c Comparison) String() string { return fmt.Sprintf("+%d -%d =%d", c.Newly, c.NoLonger, c.Still) }

// String says what was measured against.
func (m *Measure) String() string {
	what := map[Against]string{
		Decisions: "moderators' decisions",
		Imported:  "imported labels",
		Both:      "moderators' decisions and imported labels",
	}
	return fmt.Sprintf("Measured against %s: %d bad users, %d good ones, %d of whom nothing is known.",
		what[m.Against], m.Bad, m.Good, m.Unknown)
}

func count(n uint64) string { return strconv.FormatUint(n, 10) }

func percent(r *float64) string {
	if r == nil {
		return "-"
	}
	return strconv.FormatFloat(100**r, 'f', 1, 64) + " %"
}

func decimal(r *float64) string {
	if r == nil {
		return "-"
	}
	return strconv.FormatFloat(*r, 'f', 3, 64)
}
