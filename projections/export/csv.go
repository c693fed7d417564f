package export

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/meet5/backend/events"
)

// timeLayout is RFC 3339 in UTC, always with microseconds, as in a CloudEvent.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// formulaStarts are the characters by which spreadsheets know a formula, and the
// apostrophe that says that there is none.
const formulaStarts = "=+-@\t\r'"

// csvWriter writes RFC 4180: lines end with CR LF, and what is not there is an empty
// cell.
type csvWriter struct {
	to      io.Writer
	started bool
	entry   entry
	line    []byte
	cell    []byte
}

func newCSV(to io.Writer, log string) *csvWriter { return &csvWriter{to: to, entry: newEntry(log)} }

func (w *csvWriter) Write(e events.Recorded) error {
	w.line = w.line[:0]
	w.header()
	w.entry.set(e)
	for i := range columns {
		if i > 0 {
			w.line = append(w.line, ',')
		}
		w.append(&columns[i])
	}
	w.line = append(w.line, "\r\n"...)
	_, err := w.to.Write(w.line)
	return err
}

func (w *csvWriter) append(c *column) {
	switch c.kind {
	case small, large:
		if n, ok := c.number(&w.entry); ok {
			w.line = strconv.AppendInt(w.line, n, 10)
		}
	case instant:
		if n, ok := c.number(&w.entry); ok {
			w.line = time.UnixMicro(n).UTC().AppendFormat(w.line, timeLayout)
		}
	default:
		cell, ok := c.text(w.cell[:0], &w.entry)
		if w.cell = cell; ok {
			w.line = appendCell(w.line, cell, c.kind == document && w.entry.isJSON)
		}
	}
}

// Close writes the header if there was no event.
func (w *csvWriter) Close() error {
	w.line = w.line[:0]
	if w.header(); len(w.line) == 0 {
		return nil
	}
	_, err := w.to.Write(w.line)
	return err
}

func (w *csvWriter) header() {
	if !w.started {
		w.started = true
		w.line = append(append(w.line, strings.Join(Columns(), ",")...), "\r\n"...)
	}
}

// appendCell appends a cell that no spreadsheet takes for a formula. One that begins
// like a formula has an apostrophe before it; so has one that begins with an
// apostrophe, so that the first one can be taken away again. Where the comma does not
// part cells, as in countries that write it in numbers, the semicolon does, and what
// follows it would be a cell of its own: so it is escaped in JSON, which can only have
// it within a string.
func appendCell(b, cell []byte, isJSON bool) []byte {
	guard := len(cell) > 0 && strings.IndexByte(formulaStarts, cell[0]) >= 0
	semicolon := isJSON && bytes.IndexByte(cell, ';') >= 0
	if !guard && !semicolon && !bytes.ContainsAny(cell, "\",\r\n") {
		return append(b, cell...)
	}
	b = append(b, '"')
	if guard {
		b = append(b, '\'')
	}
	for _, c := range cell {
		switch {
		case c == '"':
			b = append(b, '"', '"')
		case c == ';' && semicolon:
			b = append(b, `\u003b`...)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
