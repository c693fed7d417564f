package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/cmd/standing"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/projections/versions"
)

type projectionsStatus struct {
	All  bool `help:"Show every partition, not only those that lag or fail."`
	JSON bool `name:"json" help:"Write everything as JSON."`
	place
}

// statusReport is what status tells.
type statusReport struct {
	Logs          []standing.Log  `json:"logs"`
	Subscriptions []standing.Row  `json:"subscriptions"`
	Versions      []versionReport `json:"versions,omitempty"` // none on files
	Building      *versions.Work  `json:"building,omitempty"`
}

// versionReport is a version of the read models.
type versionReport struct {
	Version   int       `json:"version"`
	State     string    `json:"state"` // serving, kept or dropping
	Since     time.Time `json:"since,omitzero"`
	Documents int64     `json:"documents"` // about so many
}

// Run is called by kong.
func (c *projectionsStatus) Run(ctx context.Context, con *console) (err error) {
	b, err := c.openToRead(ctx, con)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	now := time.Now()
	r, err := reportOf(ctx, b, now)
	if err != nil {
		return err
	}
	if b.Versions == nil {
		con.say("%s", inMemory)
	}
	if c.JSON {
		return con.json(r)
	}
	w := tabwriter.NewWriter(con.out, 0, 0, 2, ' ', 0)
	r.print(w, c.All, now)
	return w.Flush()
}

func reportOf(ctx context.Context, b *backend.Tools, now time.Time) (r statusReport, err error) {
	logs := []log.Reader{b.Logs.Activity, b.Logs.Fraud, b.Logs.User}
	if r.Logs, err = standing.Logs(ctx, logs); err != nil {
		return r, err
	}
	if r.Subscriptions, err = standing.Rows(ctx, b.Ledgers, logs, now); err != nil || b.Versions == nil {
		return r, err
	}
	state, err := b.Versions.State(ctx)
	if err != nil {
		return r, err
	}
	r.Building = state.Building
	r.Versions = []versionReport{{Version: state.Serving, State: "serving", Since: state.Since}}
	for _, k := range state.Kept {
		r.Versions = append(r.Versions, versionReport{Version: k.Version, State: "kept", Since: k.Since})
	}
	for _, n := range state.Dropping {
		r.Versions = append(r.Versions, versionReport{Version: n, State: "dropping"})
	}
	for i := range r.Versions {
		if r.Versions[i].Documents, err = b.Versions.Store(r.Versions[i].Version).Size(ctx); err != nil {
			return r, err
		}
	}
	// What is kept of versions that are gone is of no use to anybody.
	r.Subscriptions = slices.DeleteFunc(r.Subscriptions, func(row standing.Row) bool {
		version, ok := versions.VersionOf(row.Group)
		return ok && row.Service == "projections" && !state.Has(version) && (state.Building == nil || state.Building.Version != version)
	})
	return r, nil
}

func (r *statusReport) print(w io.Writer, all bool, now time.Time) {
	fmt.Fprintln(w, "LOG\tPARTITIONS\tEVENTS")
	for _, l := range r.Logs {
		fmt.Fprintf(w, "%s\t%d\t%d\n", l.Name, len(l.Heads), l.Events)
	}
	if len(r.Subscriptions) > 0 {
		fmt.Fprintln(w, "\nGROUP\tLOG\tPARTITION\tPOSITION\tHEAD\tLAG\tBEHIND\tRATE\tHEARD OF\tPARKED\tFAILURE")
	}
	for _, s := range standing.Sums(r.Subscriptions) {
		line(w, fmt.Sprintf("all %d", s.Partitions), s.Row, r.note(s.Group), now)
		for _, row := range r.Subscriptions {
			if row.Service == s.Service && row.Group == s.Group && row.Log == s.Log && (all || row.Lag > 0 || row.Parked > 0 || row.Failure != "") {
				line(w, fmt.Sprint(row.Partition), row, "", now)
			}
		}
	}
	if len(r.Versions) > 0 {
		fmt.Fprintln(w, "\nVERSION\tSTATE\tSINCE\tDOCUMENTS")
	}
	for _, v := range r.Versions {
		since := "the start"
		if !v.Since.IsZero() {
			since = v.Since.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\n", v.Version, v.State, since, v.Documents)
	}
	if r.Building != nil {
		fmt.Fprintf(w, "\n%s\n", building(*r.Building, now))
	}
}

// note says of the group of a version that is kept why it may lag.
func (r *statusReport) note(group string) string {
	version, ok := versions.VersionOf(group)
	if ok && slices.ContainsFunc(r.Versions, func(v versionReport) bool { return v.Version == version && v.State == "kept" }) {
		return "kept, nobody follows"
	}
	return ""
}

func line(w io.Writer, partitions string, r standing.Row, note string, now time.Time) {
	if r.Failure != "" {
		note = "could not " + r.Failure
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%.0f/s\t%s\t%d\t%s\n", r.Group, r.Log, partitions, r.Position, r.Head, r.Lag,
		seconds(r.LagSeconds), r.Rate, ago(r.Heartbeat, now), r.Parked, note)
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(100 * time.Millisecond).String()
}

func ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return seconds(max(0, now.Sub(t).Seconds())) + " ago"
}

// building says how far a rebuild or a switch is.
func building(w versions.Work, now time.Time) string {
	if !w.Until.After(now) {
		return fmt.Sprintf("version %d was left unfinished by %s: rebuild again goes on with it, drop gives it up", w.Version, w.Owner)
	}
	text := fmt.Sprintf("version %d is brought up to date by %s since %s: %d of %d events, %.0f events/s",
		w.Version, w.Owner, w.Started.UTC().Format(time.RFC3339), w.Done, w.Total, w.Rate)
	if w.Rate > 0 {
		text += fmt.Sprintf(", about %s left", seconds(float64(w.Total-min(w.Done, w.Total))/w.Rate))
	}
	return text
}
