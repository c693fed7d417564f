package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/meet5/backend/cmd/bench"
	"github.com/meet5/backend/service/run"
)

type benchmark struct {
	Works    []string      `arg:"" optional:"" name:"work" help:"What to measure, see --list; * and ? stand for what they do in a shell. All that is not long if none is given."`
	Mongo    string        `help:"MongoDB to measure on, in databases of its own." placeholder:"URI" env:"MEET5_MONGO"`
	AMQP     string        `name:"amqp" help:"RabbitMQ to measure on, with exchanges of its own." placeholder:"URI" env:"MEET5_AMQP"`
	Data     string        `help:"Where files are measured, in a folder of its own; where temporary files go if not given." placeholder:"DIR" type:"existingdir"`
	Rounds   int           `help:"How many turns each work has." default:"5"`
	For      time.Duration `help:"About how long each side of a turn works." default:"2s"`
	All      bool          `help:"Also what takes minutes."`
	List     bool          `help:"Say what there is to measure, and measure nothing."`
	Profile  string        `help:"Write a CPU profile of this process, both sides of every turn, to this file." placeholder:"FILE" type:"path"`
	JSON     bool          `name:"json" help:"Write the results as JSON, every turn of them." xor:"form"`
	Markdown bool          `help:"Write the results as a Markdown table." xor:"form"`
}

// Run is called by kong.
func (c *benchmark) Run(ctx context.Context, con *console) error {
	o := bench.Options{
		Names: c.Works, All: c.All, Mongo: c.Mongo, AMQP: c.AMQP, Folder: c.Data,
		Rounds: c.Rounds, For: c.For, Scale: 1,
		Logger: slog.New(slog.NewTextHandler(con.err, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if err := o.Validate(); err != nil {
		return &run.UsageError{Err: err}
	}
	if c.List {
		return c.list(con)
	}
	works, lacking := o.Chosen()
	bar := con.progress(len(works)*c.Rounds, "turns")
	o.Progress = func(work string, done, _ int) {
		bar.describe(work)
		if done > 0 {
			bar.add(1)
		}
	}
	results, err := c.profiled(func() ([]bench.Result, error) { return bench.Run(ctx, o) })
	bar.done()
	if len(results) > 0 || err == nil {
		err = errors.Join(err, c.print(con, results))
	}
	if err != nil {
		return err
	}
	if len(lacking) > 0 {
		names := make([]string, len(lacking))
		for i, w := range lacking {
			names[i] = w.Name
		}
		con.say("left out for want of --mongo or --amqp: %s", strings.Join(names, ", "))
	}
	targets, missed := 0, 0
	for _, r := range results {
		if r.Met != nil {
			targets++
			if !*r.Met {
				missed++
			}
		}
	}
	if missed > 0 {
		con.say("%d of %d targets missed", missed, targets)
	}
	return nil
}

// report is the results and what they were made on.
type report struct {
	Go      string         `json:"go"`
	System  string         `json:"system"`
	Cores   int            `json:"cores"`
	Rounds  int            `json:"rounds"`
	For     string         `json:"for"`
	Results []bench.Result `json:"results"`
}

func (c *benchmark) print(con *console, results []bench.Result) error {
	switch {
	case c.JSON:
		e := json.NewEncoder(con.out)
		e.SetIndent("", "  ")
		return e.Encode(report{
			Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(),
			Rounds: c.Rounds, For: c.For.String(), Results: results,
		})
	case c.Markdown:
		return bench.WriteMarkdown(con.out, results)
	}
	return bench.WriteTable(con.out, results)
}

func (c *benchmark) list(con *console) error {
	t := tabwriter.NewWriter(con.out, 0, 0, 2, ' ', 0)
	for _, w := range bench.Works() {
		needs := []string{}
		if w.Mongo {
			needs = append(needs, "--mongo")
		}
		if w.AMQP {
			needs = append(needs, "--amqp")
		}
		if w.Long {
			needs = append(needs, "minutes: only by its name or with --all")
		}
		fmt.Fprintf(t, "%s\t%s\n", w.Name, w.Ours)
		if w.Limit != "" {
			fmt.Fprintf(t, "\tbeside: %s\n", w.Limit)
		}
		for _, f := range w.Figures {
			name := ""
			if f.Name != "" {
				name = f.Name + ": "
			}
			fmt.Fprintf(t, "\t%s%s, target: %v\n", name, f.Unit, f.Target)
		}
		if len(needs) > 0 {
			fmt.Fprintf(t, "\tneeds: %s\n", strings.Join(needs, ", "))
		}
	}
	return t.Flush()
}

// describe writes before the bar what is being done.
func (p progress) describe(what string) {
	if p.bar != nil {
		p.bar.Describe(what)
	}
}

// profiled writes a profile of what run does, if one is asked for.
func (c *benchmark) profiled(run func() ([]bench.Result, error)) (results []bench.Result, err error) {
	if c.Profile == "" {
		return run()
	}
	file, err := os.Create(c.Profile)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	defer pprof.StopCPUProfile()
	return run()
}
