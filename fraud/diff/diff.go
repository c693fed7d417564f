// Package diff compares two texts line by line.
package diff

import (
	"fmt"
	"strings"
)

const (
	// around is how many equal lines are shown around what differs.
	around = 3
	// maxCells bounds the table of the comparison, of 2 bytes a cell. Beyond, all that
	// stands between the first and the last difference counts as different.
	maxCells = 4 << 20
)

// line is a line of the comparison: '-' is in the old text, '+' in the new one, ' ' in
// both.
type line struct {
	sign byte
	text string
}

// Unified returns how the new text differs from the old one as a unified diff; nothing
// if they are equal. The names head it.
func Unified(oldName, newName, oldText, newText string) string {
	all := compare(split(oldText), split(newText))
	var b strings.Builder
	oldAt, newAt := 1, 1 // the numbers of the next lines
	for i := 0; i < len(all); {
		if all[i].sign == ' ' {
			i, oldAt, newAt = i+1, oldAt+1, newAt+1
			continue
		}
		from := i
		for range around {
			if from > 0 && all[from-1].sign == ' ' {
				from, oldAt, newAt = from-1, oldAt-1, newAt-1
			}
		}
		to := end(all, i)
		oldLines, newLines := 0, 0
		for _, l := range all[from:to] {
			if l.sign != '+' {
				oldLines++
			}
			if l.sign != '-' {
				newLines++
			}
		}
		if b.Len() == 0 {
			fmt.Fprintf(&b, "--- %s\n+++ %s\n", oldName, newName)
		}
		fmt.Fprintf(&b, "@@ -%s +%s @@\n", place(oldAt, oldLines), place(newAt, newLines))
		for _, l := range all[from:to] {
			b.WriteString(string(l.sign) + l.text + "\n")
		}
		i, oldAt, newAt = to, oldAt+oldLines, newAt+newLines
	}
	return b.String()
}

// place is where a hunk begins and how many lines it has. One of no lines begins, by
// convention, at the line before.
func place(at, lines int) string {
	if lines == 0 {
		at--
	}
	return fmt.Sprintf("%d,%d", at, lines)
}

// end is where a hunk ends whose first difference is at i: around lines after its last
// difference, and not where another one is that near.
func end(all []line, i int) int {
	last := i
	for ; i < len(all) && i-last <= 2*around+1; i++ {
		if all[i].sign != ' ' {
			last = i
		}
	}
	return min(last+1+around, len(all))
}

func split(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// compare lines up what two texts have in common: as many lines as can be.
func compare(old, fresh []string) (all []line) {
	head := 0
	for head < min(len(old), len(fresh)) && old[head] == fresh[head] {
		head++
	}
	tail := 0
	for tail < min(len(old), len(fresh))-head && old[len(old)-1-tail] == fresh[len(fresh)-1-tail] {
		tail++
	}
	for _, text := range old[:head] {
		all = append(all, line{' ', text})
	}
	all = append(all, middle(old[head:len(old)-tail], fresh[head:len(fresh)-tail])...)
	for _, text := range old[len(old)-tail:] {
		all = append(all, line{' ', text})
	}
	return all
}

func middle(old, fresh []string) (all []line) {
	// common[i][j] is how many lines old[i:] and fresh[j:] have in common.
	var common [][]uint16
	if (len(old)+1)*(len(fresh)+1) <= maxCells {
		common = make([][]uint16, len(old)+1)
		for i := range common {
			common[i] = make([]uint16, len(fresh)+1)
		}
		for i := len(old) - 1; i >= 0; i-- {
			for j := len(fresh) - 1; j >= 0; j-- {
				if old[i] == fresh[j] {
					common[i][j] = common[i+1][j+1] + 1
				} else {
					common[i][j] = max(common[i+1][j], common[i][j+1])
				}
			}
		}
	}
	i, j := 0, 0
	for i < len(old) || j < len(fresh) {
		switch {
		case common != nil && i < len(old) && j < len(fresh) && old[i] == fresh[j]:
			all = append(all, line{' ', old[i]})
			i, j = i+1, j+1
		case j == len(fresh), i < len(old) && (common == nil || common[i+1][j] >= common[i][j+1]):
			all = append(all, line{'-', old[i]})
			i++
		default:
			all = append(all, line{'+', fresh[j]})
			j++
		}
	}
	return all
}
