package history

import (
	"mime"
	"strconv"
	"strings"

	"github.com/meet5/backend/projections/export"
)

// negotiate picks the format that the Accept headers prefer, as RFC 9110 has it: the
// closest range says how much a format is wanted. Of those that are wanted as much,
// it picks one that was named rather than one that a wildcard allows, and else the
// first. Without a header that is the first of all.
func negotiate(headers []string) (export.Format, bool) {
	list := strings.Join(headers, ",")
	if strings.TrimSpace(list) == "" {
		return export.NDJSON, true
	}
	var ranges []mediaRange
	for part := range strings.SplitSeq(list, ",") {
		if r, ok := parseRange(part); ok {
			ranges = append(ranges, r)
		}
	}
	best, picked := mediaRange{}, export.NDJSON
	for _, f := range export.Formats() {
		closest := mediaRange{closeness: -1}
		for _, r := range ranges {
			if r.covers(f) && r.closeness > closest.closeness {
				closest = r
			}
		}
		if closest.quality > best.quality || closest.quality == best.quality && closest.closeness > best.closeness && best.quality > 0 {
			best, picked = closest, f
		}
	}
	return picked, best.quality > 0
}

// mediaRange is a part of an Accept header.
type mediaRange struct {
	pattern   string
	closeness int // 0 for */*, 1 for a type, 2 for a media type
	quality   float64
}

// parseRange reads a part; one that is none is as if it were not there.
func parseRange(part string) (mediaRange, bool) {
	pattern, params, err := mime.ParseMediaType(part)
	kind, sub, ok := strings.Cut(pattern, "/")
	if err != nil || !ok || kind == "*" && sub != "*" {
		return mediaRange{}, false
	}
	r := mediaRange{pattern: pattern, closeness: 2, quality: 1}
	switch {
	case kind == "*":
		r.closeness = 0
	case sub == "*":
		r.closeness = 1
	}
	if q, there := params["q"]; there {
		if r.quality, err = strconv.ParseFloat(q, 64); err != nil || !(r.quality >= 0 && r.quality <= 1) {
			return mediaRange{}, false
		}
	}
	return r, true
}

func (r mediaRange) covers(f export.Format) bool {
	switch r.closeness {
	case 0:
		return true
	case 1:
		return strings.HasPrefix(f.MediaType(), strings.TrimSuffix(r.pattern, "*"))
	}
	return r.pattern == f.MediaType()
}

// mediaTypes names what there is.
func mediaTypes() string {
	var names []string
	for _, f := range export.Formats() {
		names = append(names, f.MediaType())
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
