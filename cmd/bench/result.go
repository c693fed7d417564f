package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// Result is what has come of a figure.
type Result struct {
	Work   string `json:"work"`
	Figure string `json:"figure,omitempty"`
	Unit   string `json:"unit"`
	// Ours and Limit are the medians of the turns; Limit is 0 where there is none.
	Ours  float64 `json:"ours"`
	Limit float64 `json:"limit,omitempty"`
	// Ratio is Ours to Limit, Low and High the least and the greatest ratio of a
	// turn. Without a limit, Ratio is 0, and Low and High are of the figure itself.
	Ratio  float64 `json:"ratio,omitempty"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Target string  `json:"target"`
	// Met says whether the target is met; absent if there is none.
	Met   *bool  `json:"met,omitempty"`
	Turns []Pair `json:"turns"`

	target Target
}

// Title is the work's name, and the figure's.
func (r *Result) Title() string {
	if r.Figure == "" {
		return r.Work
	}
	return r.Work + ": " + r.Figure
}

// sum works out everything from the turns.
func (r *Result) sum() {
	var ours, limits, spread []float64
	for _, p := range r.Turns {
		ours, limits = append(ours, p.Ours), append(limits, p.Limit)
		if p.Limit > 0 {
			spread = append(spread, p.Ours/p.Limit)
		} else {
			spread = append(spread, p.Ours)
		}
	}
	r.Ours, r.Limit = median(ours), median(limits)
	r.Low, r.High = slices.Min(spread), slices.Max(spread)
	if r.Limit > 0 {
		r.Ratio = r.Ours / r.Limit
	}
	var met bool
	switch t := r.target; {
	case t.Ratio > 0:
		met = r.Ratio >= t.Ratio
	case t.AtLeast > 0:
		met = r.Ours >= t.AtLeast
	case t.AtMost > 0:
		met = r.Ours <= t.AtMost
	default:
		return
	}
	r.Met = &met
}

// median is the middle value, or the mean of the two in the middle.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// heads are the columns of a table.
var heads = []string{"work", "ours", "limit", "ratio", "spread", "target", "met"}

func (r *Result) cells() []string {
	limit, ratio, spread := "", "", figure(r.Low)+"–"+figure(r.High)
	if r.Limit > 0 {
		limit, ratio = figure(r.Limit)+" "+r.Unit, multiple(r.Ratio)
		spread = multiple(r.Low) + "–" + multiple(r.High)
	}
	met := ""
	if r.Met != nil {
		met = map[bool]string{true: "yes", false: "no"}[*r.Met]
	}
	return []string{r.Title(), figure(r.Ours) + " " + r.Unit, limit, ratio, spread, r.Target, met}
}

// WriteTable writes the results for people to read.
func WriteTable(w io.Writer, results []Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(heads, "\t"))
	for i := range results {
		fmt.Fprintln(t, strings.Join(results[i].cells(), "\t"))
	}
	return t.Flush()
}

// WriteMarkdown writes the results as a table for a page of documentation.
func WriteMarkdown(w io.Writer, results []Result) error {
	lines := []string{strings.Join(heads, " | "), strings.Repeat("---|", len(heads)-1) + "---"}
	for i := range results {
		lines = append(lines, strings.Join(results[i].cells(), " | "))
	}
	for i, l := range lines {
		if i == 1 {
			l = "|" + l + "|"
		} else {
			l = "| " + l + " |"
		}
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return nil
}

// multiple writes a ratio with three digits.
func multiple(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// figure writes a number with three digits, and commas between thousands.
func figure(v float64) string {
	if v < 100 {
		return multiple(v)
	}
	unit := math.Pow(10, math.Floor(math.Log10(v))-2)
	digits := fmt.Sprintf("%.0f", math.Round(v/unit)*unit)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
