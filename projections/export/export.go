// Package export writes events of a log in the formats that analysts read: lines of
// CloudEvents, CSV and Parquet.
//
// It promises that
//   - all formats say the same of the same events, in the same order: CSV and
//     Parquet have the columns of one list, [Columns], for every log and type, and
//     what stands in them is what the CloudEvent says;
//   - what is written takes memory that does not grow with the number of events,
//     but for about 30 kB of index a row group in Parquet;
//   - a Parquet file is one only after Close: readers refuse one that breaks off.
//     Lines and CSV have no end of their own, so that whoever carries them must say
//     that they broke off;
//   - opened in a spreadsheet, CSV holds no cell that the program takes for a formula,
//     whatever members and moderators have written.
package export

import (
	"errors"
	"io"
	"path/filepath"
	"strings"

	"github.com/meet5/backend/events"
)

// Format is a way to write events down. The zero value is NDJSON.
type Format int

// The formats, the one that is preferred first.
const (
	// NDJSON is a CloudEvent a line.
	NDJSON Format = iota
	// CSV is as RFC 4180 has it, with a header.
	CSV
	// Parquet is a file of Apache Parquet.
	Parquet
)

var formats = [...]struct{ name, mediaType, contentType string }{
	NDJSON:  {"ndjson", "application/x-ndjson", "application/x-ndjson"},
	CSV:     {"csv", "text/csv", "text/csv; charset=utf-8; header=present"},
	Parquet: {"parquet", "application/vnd.apache.parquet", "application/vnd.apache.parquet"},
}

// Formats lists all formats, the one that is preferred first.
func Formats() []Format { return []Format{NDJSON, CSV, Parquet} }

// String is the format's name, which is also what names of its files end with.
func (f Format) String() string { return formats[f].name }

// MediaType is the format's media type, without parameters.
func (f Format) MediaType() string { return formats[f].mediaType }

// ContentType is the format's media type with its parameters.
func (f Format) ContentType() string { return formats[f].contentType }

// FileName is what a file of the log's events is called.
func (f Format) FileName(log string) string { return "meet5-" + log + "." + f.String() }

// UnmarshalText takes a format's name.
func (f *Format) UnmarshalText(name []byte) error {
	for _, known := range Formats() {
		if known.String() == string(name) {
			*f = known
			return nil
		}
	}
	return errors.New("must be ndjson, csv or parquet")
}

// Of is the format that the name of a file speaks of; NDJSON if it does not.
func Of(file string) Format {
	for _, known := range Formats() {
		if strings.EqualFold(filepath.Ext(file), "."+known.String()) {
			return known
		}
	}
	return NDJSON
}

// Writer writes events. Nothing is whole before Close, and after an error nothing
// can be. A Writer that is given up needs no Close.
type Writer interface {
	// Write writes one event, now or later.
	Write(e events.Recorded) error
	// Close writes what is not written yet. It does not close what it writes to.
	Close() error
}

// NewWriter writes the log's events to a stream. NDJSON and CSV write each event at
// once, so that a buffer is well placed between; Parquet writes a row group at a time, of some 10 MB.
func NewWriter(f Format, to io.Writer, log string) Writer {
	switch f {
	case CSV:
		return newCSV(to, log)
	case Parquet:
		return newParquet(to, log)
	}
	return &ndjson{to: to, log: log}
}

// ndjson writes a CloudEvent a line.
type ndjson struct {
	to   io.Writer
	log  string
	line []byte
}

func (w *ndjson) Write(e events.Recorded) error {
	w.line = append(events.AppendCloudEvent(w.line[:0], w.log, e), '\n')
	_, err := w.to.Write(w.line)
	return err
}

func (w *ndjson) Close() error { return nil }
