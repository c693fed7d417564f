package export

import (
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/meet5/backend/events"
)

const (
	// groupRows and groupBytes are how many events, and of how many bytes of data, a
	// row group has at most: what a writer keeps until it is full, compressed, is
	// what it keeps at all. It is also what a reader reads at once.
	groupRows  = 1 << 17
	groupBytes = 24 << 20
	// batchRows and batchBytes are how many events, and of how many bytes, are handed
	// to the columns at once.
	batchRows  = 256
	batchBytes = 1 << 20
	// pageBytes is how large a column's page grows, before it is compressed.
	pageBytes = 256 << 10
	// dictionaryBytes is how large a column's dictionary grows in a row group; beyond
	// it the column is written out.
	dictionaryBytes = 1 << 20
)

// parquetWriter hands batches of events to the columns, each of which keeps its pages
// until the row group is full.
type parquetWriter struct {
	file    *parquet.GenericWriter[any]
	entry   entry
	values  [][]parquet.Value // by column, those of the batch
	text    []byte            // what the batch's values point into
	rows    int               // of the batch
	grouped int               // rows of the row group
	bytes   int               // of data in the row group

	mostRows, mostBytes int // of a row group
}

func newParquet(to io.Writer, log string) *parquetWriter {
	return &parquetWriter{
		file: parquet.NewGenericWriter[any](to, schema(), parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest}),
			// Version 1 of a data page is the one that every reader knows. In its header
			// the least and the greatest value would stand whole; the file's index has
			// them too, cut short, and of data, which nobody seeks by its start, none.
			parquet.DataPageVersion(1), parquet.DataPageStatistics(false), parquet.PageBufferSize(pageBytes), parquet.WriteBufferSize(0),
			parquet.DictionaryMaxBytes(dictionaryBytes), parquet.SkipPageBounds("data"), parquet.SkipPageBounds("data_base64")),
		entry: newEntry(log), values: make([][]parquet.Value, len(columns)),
		mostRows: groupRows, mostBytes: groupBytes,
	}
}

// root is a group whose fields keep their order.
type root struct {
	parquet.Group
	fields []parquet.Field
}

func (r root) Fields() []parquet.Field { return r.fields }

func schema() *parquet.Schema {
	group := make(parquet.Group, len(columns))
	for _, c := range columns {
		group[c.name] = c.node()
	}
	byName := make(map[string]parquet.Field, len(columns))
	for _, f := range group.Fields() {
		byName[f.Name()] = f
	}
	r := root{Group: group}
	for _, c := range columns {
		r.fields = append(r.fields, byName[c.name])
	}
	return parquet.NewSchema("event", r)
}

// node is the column's type. IDs are text and not UUID, and data is text and not JSON:
// every reader knows text, while the other two come as bytes, or not at all, in some.
func (c *column) node() parquet.Node {
	var n parquet.Node
	switch c.kind {
	case small:
		n = parquet.Encoded(parquet.Int(32), &parquet.RLEDictionary)
	case large:
		n = parquet.Int(64)
	case instant:
		n = parquet.Timestamp(parquet.Microsecond)
	case name:
		n = parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
	default:
		n = parquet.Encoded(parquet.String(), &parquet.Plain)
	}
	if c.optional {
		n = parquet.Optional(n)
	}
	return n
}

func (w *parquetWriter) Write(e events.Recorded) error {
	w.entry.set(e)
	for i := range columns {
		w.values[i] = append(w.values[i], w.value(i))
	}
	w.grouped++
	w.bytes += len(w.entry.data)
	if w.rows++; w.rows == batchRows || len(w.text) >= batchBytes {
		if err := w.hand(); err != nil {
			return err
		}
	}
	if w.grouped < w.mostRows && w.bytes < w.mostBytes {
		return nil
	}
	return w.group()
}

func (w *parquetWriter) value(i int) (v parquet.Value) {
	c := &columns[i]
	var there bool
	switch c.kind {
	case small:
		var n int64
		n, there = c.number(&w.entry)
		v = parquet.Int32Value(int32(n)) //nolint:gosec // of 32 bits
	case large, instant:
		var n int64
		n, there = c.number(&w.entry)
		v = parquet.Int64Value(n)
	default:
		at := len(w.text)
		if w.text, there = c.text(w.text, &w.entry); !there {
			w.text = w.text[:at]
		}
		v = parquet.ByteArrayValue(w.text[at:]) // stays there also if the text moves as it grows
	}
	switch {
	case !there:
		return parquet.NullValue().Level(0, 0, i)
	case c.optional:
		return v.Level(0, 1, i)
	}
	return v.Level(0, 0, i)
}

// hand gives the batch to the columns, which copy it.
func (w *parquetWriter) hand() error {
	for i, to := range w.file.ColumnWriters() {
		if _, err := to.WriteRowValues(w.values[i]); err != nil {
			return fmt.Errorf("write the column %s: %w", columns[i].name, err)
		}
		w.values[i] = w.values[i][:0]
	}
	w.text, w.rows = w.text[:0], 0
	return nil
}

// group ends the row group, and writes it.
func (w *parquetWriter) group() error {
	if w.rows > 0 {
		if err := w.hand(); err != nil {
			return err
		}
	}
	w.grouped, w.bytes = 0, 0
	return w.file.Flush()
}

func (w *parquetWriter) Close() error {
	if err := w.group(); err != nil {
		return err
	}
	return w.file.Close()
}
