package events

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// CloudEventsType is the media type of one CloudEvent in JSON.
const CloudEventsType = "application/cloudevents+json"

// AppendCloudEvent appends the event as a CloudEvents 1.0 JSON object in one
// line, without a line feed: id, source ("/v1/logs/" and the log's name), type,
// subject (the stream), time (when it occurred), the extensions recordedtime,
// partition and sequence, and data. An activity's data starts with its actor.
// Data that is not JSON in UTF-8 goes out as data_base64, unchanged.
func AppendCloudEvent(b []byte, log string, e Recorded) []byte {
	b = append(b, `{"specversion":"1.0","id":"`...)
	b = append(b, e.ID.String()...)
	b = append(b, `","source":"/v1/logs/`...)
	b = append(b, log...)
	b = append(b, `","type":`...)
	b = appendString(b, e.Type)
	b = append(b, `,"subject":"`...)
	b = append(b, e.Stream.String()...)
	b = append(b, `","time":"`...)
	b = e.OccurredAt.UTC().AppendFormat(b, timeLayout)
	b = append(b, `","datacontenttype":"application/json","recordedtime":"`...)
	b = e.RecordedAt.UTC().AppendFormat(b, timeLayout)
	b = append(b, `","partition":`...)
	b = strconv.AppendInt(b, int64(e.Partition), 10)
	b = append(b, `,"sequence":`...)
	b = strconv.AppendUint(b, e.Sequence, 10)
	b = appendData(b, e)
	return append(b, '}')
}

// AppendData appends the event's data as a CloudEvent shows it: JSON in one line,
// or else, if it is not JSON in UTF-8, base64 of it. It says whether it is JSON.
func AppendData(b []byte, e Recorded) (_ []byte, isJSON bool) {
	if !isText(e.Data) {
		return base64.StdEncoding.AppendEncode(b, e.Data), false
	}
	return appendText(b, e), true
}

func appendData(b []byte, e Recorded) []byte {
	if isText(e.Data) {
		return appendText(append(b, `,"data":`...), e)
	}
	b = append(b, `,"data_base64":"`...)
	b = base64.StdEncoding.AppendEncode(b, e.Data)
	return append(b, '"')
}

func isText(data []byte) bool { return json.Valid(data) && utf8.Valid(data) }

func appendText(b []byte, e Recorded) []byte {
	at := len(b)
	if strings.HasPrefix(e.Type, ActivityLog+".") && e.Data[0] == '{' {
		b = append(b, `{"actor":"`...)
		b = append(b, e.Stream.String()...)
		b = append(b, '"')
		rest := bytes.TrimLeft(e.Data[1:], " \t\r\n")
		if rest[0] != '}' {
			b = append(b, ',')
		}
		b = append(b, rest...)
	} else {
		b = append(b, e.Data...)
	}
	for i, c := range b[at:] {
		if c < ' ' { // space between the parts of the JSON: within a string it is escaped
			b[at+i] = ' '
		}
	}
	return b
}

func appendString(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...) // a string always marshals
	}
	return append(b, quoted...)
}
