package export

import "io"

// GroupRows is how many events a row group has.
const GroupRows = groupRows

// NewSmallGroups writes Parquet in row groups of so many events and bytes of data.
func NewSmallGroups(to io.Writer, log string, rows, bytes int) Writer {
	w := newParquet(to, log)
	w.mostRows, w.mostBytes = rows, bytes
	return w
}

// Schema is Parquet's schema in words.
func Schema() string { return schema().String() }
