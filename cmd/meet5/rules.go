package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/cost"
	"github.com/meet5/backend/fraud/register"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/fraud/trial"
	"github.com/meet5/backend/service/run"
)

type rules struct {
	List     rulesList     `cmd:"" help:"List the rules as the log has them."`
	Show     rulesShow     `cmd:"" help:"Write a rule as YAML, ready to be changed and put."`
	Put      rulesPut      `cmd:"" help:"Define rules, or give them a new version."`
	Mode     rulesMode     `cmd:"" help:"Take a rule to another mode."`
	Diff     rulesDiff     `cmd:"" help:"Show how two versions of a rule differ."`
	Validate rulesValidate `cmd:"" help:"Say what is wrong with rules, run their cases, and measure what they cost."`
	Test     rulesTest     `cmd:"" help:"Run the cases that the rules carry."`
	Schema   rulesSchema   `cmd:"" help:"Write the JSON Schema of a rule, for editors and other programs."`
}

// ruleLine is a rule as it is listed.
type ruleLine struct {
	ID      string    `json:"id"`
	Mode    rule.Mode `json:"mode"`
	Version string    `json:"version"`
	// Versions is how many it has had.
	Versions  int       `json:"versions"`
	ChangedAt time.Time `json:"changed_at"`
	By        string    `json:"by"`
	Why       string    `json:"why"`
	Title     string    `json:"title"`
	Fault     string    `json:"fault,omitempty"`
}

// lineOf is a rule's line; who and why are those of its latest change.
func lineOf(k register.Rule) ruleLine {
	v := k.Current()
	l := ruleLine{ID: k.ID, Mode: k.Mode, Version: v.Hash, Versions: len(k.Versions), Title: k.Spec.Title}
	if n := len(v.Modes); n > 0 {
		last := v.Modes[n-1]
		l.ChangedAt, l.By, l.Why = last.At, last.By, last.Why
	}
	if k.Fault != nil {
		l.Title, l.Fault = "", k.Fault.Error()
	}
	return l
}

// readRegister reads the rules as the log has them.
func (p place) readRegister(ctx context.Context, con *console) (g *register.Register, err error) {
	b, err := p.openToRead(ctx, con)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return register.Read(ctx, b.Logs.Fraud)
}

// readRule reads one of them.
func (p place) readRule(ctx context.Context, con *console, id string) (register.Rule, error) {
	g, err := p.readRegister(ctx, con)
	if err != nil {
		return register.Rule{}, err
	}
	k, ok := g.Get(id)
	if !ok {
		return register.Rule{}, fmt.Errorf("%s: %w; `meet5 rules list` shows those that there are", id, register.ErrUnknown)
	}
	return k, nil
}

type rulesList struct {
	JSON bool `name:"json" help:"Write the list as JSON."`
	place
}

// Run is called by kong.
func (c *rulesList) Run(ctx context.Context, con *console) error {
	g, err := c.readRegister(ctx, con)
	if err != nil {
		return err
	}
	known, _ := g.All()
	lines := make([]ruleLine, len(known))
	for i, k := range known {
		lines[i] = lineOf(k)
	}
	if c.JSON {
		return con.json(lines)
	}
	if len(lines) == 0 {
		con.say("there are no rules yet: those of the rule book come with the first start of `meet5 up`")
		return nil
	}
	t := tabwriter.NewWriter(con.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tMODE\tVERSION\tVERSIONS\tCHANGED\tBY\tTITLE")
	for _, l := range lines {
		title := l.Title
		if l.Fault != "" {
			title = "(this build cannot read it)"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", l.ID, l.Mode, l.Version, l.Versions, l.ChangedAt.UTC().Format("2006-01-02T15:04:05Z"), l.By, title)
	}
	return t.Flush()
}

type rulesShow struct {
	ID   string `arg:"" help:"The rule."`
	JSON bool   `name:"json" help:"Write it as JSON, with its history."`
	place
}

// shownVersion is a version of a rule's history.
type shownVersion struct {
	Number  int                   `json:"number"`
	Version string                `json:"version"`
	At      time.Time             `json:"at"`
	By      string                `json:"by"`
	Why     string                `json:"why"`
	Modes   []register.ModeChange `json:"modes"`
	Spec    json.RawMessage       `json:"rule"`
}

// Run is called by kong.
func (c *rulesShow) Run(ctx context.Context, con *console) error {
	k, err := c.readRule(ctx, con, c.ID)
	if err != nil {
		return err
	}
	if c.JSON {
		shown := struct {
			ruleLine
			History []shownVersion  `json:"history"`
			Raised  []register.Span `json:"raised"`
		}{ruleLine: lineOf(k), History: make([]shownVersion, len(k.Versions)), Raised: k.Spans}
		for i, v := range k.Versions {
			shown.History[i] = shownVersion{i + 1, v.Hash, v.At, v.By, v.Why, v.Modes, v.Spec}
		}
		return con.json(shown)
	}
	if k.Fault != nil {
		return fmt.Errorf("%s cannot be read by this build: %w", k.ID, k.Fault)
	}
	text, err := register.YAML(k.Spec)
	if err != nil {
		return err
	}
	for i, v := range k.Versions {
		con.say("version %d, %s, by %s at %s: %s", i+1, v.Hash, v.By, v.At.UTC().Format(time.RFC3339), v.Why)
		for _, m := range v.Modes {
			con.say("  %s by %s at %s: %s", m.To, m.By, m.At.UTC().Format(time.RFC3339), m.Why)
		}
	}
	_, err = con.out.Write(text)
	return err
}

// reason is who changes a rule, and why.
type reason struct {
	Why string `help:"Why, in 1 to 500 characters: it is kept with the change." required:""`
	By  string `help:"Who changes it." default:"command line"`
}

func (r reason) check() error {
	if fault := register.CheckWhy(r.Why); fault != "" {
		return errors.New("--why: " + fault)
	}
	if r.By == "" || r.By == register.RuleBook {
		return errors.New("--by: must be a name, and not the rule book's")
	}
	return nil
}

func (r reason) change() register.Change {
	return register.Change{At: time.Now(), By: r.By, Why: r.Why}
}

// commit changes a rule, and says what a process that runs makes of it.
func (p place) commit(ctx context.Context, con *console, b *backend.Tools, id string, next func(*register.Register) (events.Event, error)) error {
	g, changed, err := register.Commit(ctx, b.Logs.Fraud, b.Logs.Activity, time.Now, next)
	if err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	k, _ := g.Get(id)
	l := lineOf(k)
	switch {
	case !changed:
		con.say("%s is that already: version %d, %s, %s", id, l.Versions, l.Version, l.Mode)
	case p.where().Real():
		con.say("%s: version %d, %s, %s; whoever runs loads it within seconds", id, l.Versions, l.Version, l.Mode)
	default:
		con.say("%s: version %d, %s, %s; it counts from the next start of `meet5 up` on this folder", id, l.Versions, l.Version, l.Mode)
	}
	return nil
}

type rulesPut struct {
	File string `arg:"" help:"The rules, as YAML or JSON. New ones begin as drafts; the others' modes stay." type:"existingfile"`
	reason
	place
}

// Validate is called by kong.
func (c *rulesPut) Validate() error { return errors.Join(c.check(), c.place.Validate()) }

// Run is called by kong.
func (c *rulesPut) Run(ctx context.Context, con *console) (err error) {
	list, err := readRules(c.File)
	if err != nil {
		return err
	}
	b, err := c.openToRead(ctx, con)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	for _, r := range list {
		err := c.commit(ctx, con, b, r.ID, func(g *register.Register) (events.Event, error) {
			if k, there := g.Get(r.ID); there && r.Mode != rule.Draft && r.Mode != k.Mode {
				return events.Event{}, fmt.Errorf("its mode is %s, and is not changed like this; leave it out of the file, and use `meet5 rules mode`", k.Mode)
			}
			return g.Put(r, c.change())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

type rulesMode struct {
	ID    string    `arg:"" help:"The rule."`
	Mode  rule.Mode `arg:"" help:"draft, shadow, live or retired."`
	Force bool      `help:"Let a draft go live without having been in shadow."`
	reason
	place
}

// Validate is called by kong.
func (c *rulesMode) Validate() error { return errors.Join(c.check(), c.place.Validate()) }

// Run is called by kong.
func (c *rulesMode) Run(ctx context.Context, con *console) (err error) {
	if !slices.Contains(register.Modes(), c.Mode) {
		return &run.UsageError{Err: fmt.Errorf("MODE: must be one of %v, not %q", register.Modes(), c.Mode)}
	}
	b, err := c.openToRead(ctx, con)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return c.commit(ctx, con, b, c.ID, func(g *register.Register) (events.Event, error) {
		return g.SetMode(c.ID, c.Mode, c.Force, c.change())
	})
}

type rulesDiff struct {
	ID   string `arg:"" help:"The rule."`
	From string `help:"A version's number or hash; the one before, if left out." placeholder:"VERSION"`
	To   string `help:"A version's number or hash; the current one, if left out." placeholder:"VERSION"`
	place
}

// Run is called by kong.
func (c *rulesDiff) Run(ctx context.Context, con *console) error {
	k, err := c.readRule(ctx, con, c.ID)
	if err != nil {
		return err
	}
	to, err := k.Find(c.To, len(k.Versions))
	if err != nil {
		return &run.UsageError{Err: fmt.Errorf("--to: %w", err)}
	}
	from, err := k.Find(c.From, max(1, to-1))
	if err != nil {
		return &run.UsageError{Err: fmt.Errorf("--from: %w", err)}
	}
	d, err := k.Diff(from, to)
	if err != nil {
		return err
	}
	if d.Text == "" {
		con.say("versions %d and %d are equal", from, to)
	}
	_, err = fmt.Fprint(con.out, d.Text)
	return err
}

type rulesValidate struct {
	File string `arg:"" help:"The rules, as YAML or JSON." type:"existingfile"`
}

// Run is called by kong.
func (c *rulesValidate) Run(con *console) error {
	list, err := readRules(c.File)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(con.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "RULE\tVERSION\tCASES\tFAILED\tCOST AN EVENT\tKEEPS OF A USER")
	failed := 0
	for _, r := range list {
		results, err := trial.Run(r)
		if err != nil {
			return fmt.Errorf("%s: rule %s: %w", c.File, r.ID, err)
		}
		took, err := cost.Measure(r)
		if err != nil {
			return err
		}
		wrong := 0
		for _, result := range results {
			if !result.Passed() {
				con.say("%s: %v", r.ID, result)
				wrong++
			}
		}
		slow := ""
		if took > cost.Slow {
			slow = ", slow"
		}
		keeps := r.Cost()
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%v%s\tat most %d events, %d kB\n",
			r.ID, r.Version(), len(results), wrong, took, slow, keeps.Entries, (keeps.Bytes+999)/1000)
		failed += wrong
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d cases failed", failed)
	}
	return nil
}

type rulesTest struct {
	File string `arg:"" help:"The rules, as YAML." type:"existingfile"`
}

// Run is called by kong.
func (c *rulesTest) Run(con *console) error {
	list, err := readRules(c.File)
	if err != nil {
		return err
	}
	cases, failed := 0, 0
	for _, r := range list {
		results, err := trial.Run(r)
		if err != nil {
			return fmt.Errorf("%s: rule %s: %w", c.File, r.ID, err)
		}
		for _, result := range results {
			cases++
			if !result.Passed() {
				failed++
			}
			fmt.Fprintf(con.out, "%s: %v\n", r.ID, result)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d cases failed", failed, cases)
	}
	con.say("%d rules, %d cases: all passed", len(list), cases)
	return nil
}

type rulesSchema struct{}

// Run is called by kong.
func (c *rulesSchema) Run(con *console) error {
	if _, err := con.out.Write(rule.Schema); err != nil {
		return fmt.Errorf("write the schema: %w", err)
	}
	return nil
}
