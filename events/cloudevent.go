package events

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
)

// CloudEventsType is the media type of one CloudEvent in JSON.
const CloudEventsType = "application/cloudevents+json"

// AppendCloudEvent appends the event as a CloudEvents 1.0 JSON object in one
// line, without a line feed: id, source ("/v1/logs/" and the log's name), type,
// subject (the stream), time (when it occurred), the extensions recordedtime,
// partition and sequence, and data. An activity's data starts with its actor.
// Data that is not JSON goes out as data_base64, unchanged.
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

func appendData(b []byte, e Recorded) []byte {
	if !json.Valid(e.Data) {
		b = append(b, `,"data_base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, e.Data)
		return append(b, '"')
	}
	b = append(b, `,"data":`...)
	if !strings.HasPrefix(e.Type, ActivityLog+".") || len(e.Data) < 2 || e.Data[0] != '{' {
		return append(b, e.Data...)
	}
	b = append(b, `{"actor":"`...)
	b = append(b, e.Stream.String()...)
	b = append(b, '"')
	if string(e.Data) != "{}" {
		b = append(b, ',')
	}
	return append(b, e.Data[1:]...)
}

func appendString(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...) // a string always marshals
	}
	return append(b, quoted...)
}
