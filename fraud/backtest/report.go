package backtest

import (
	"context"
	"encoding/json"
	"maps"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/evidence"
	"github.com/meet5/backend/fraud/rule"
)

// MaxShown is how many events of evidence are shown of a user hit: the latest.
const MaxShown = 10

// casePath is where a user is opened.
const casePath = "/v1/moderation/users/"

// Report is what a backtest found.
type Report struct {
	Log   string `json:"log"`
	Since *Stamp `json:"since,omitempty"`
	Until *Stamp `json:"until,omitempty"`
	// Events are the visits, likes and withdrawn likes within the period.
	Events uint64 `json:"events"`
	// Whole is about all that was worked through, within the period or not.
	Whole    engine.Stats `json:"whole"`
	Rules    []RuleReport `json:"rules"`
	Together Together     `json:"together"`
	// Cut says that lists were shortened to make the report fit.
	Cut bool `json:"cut,omitempty"`
}

// RuleReport is what a backtest found of one rule.
type RuleReport struct {
	Rule      string    `json:"rule"`
	Version   string    `json:"version"`
	Title     string    `json:"title"`
	Mode      rule.Mode `json:"mode"`
	Threshold int       `json:"threshold"`
	// Events are those within the period that the rule listens to.
	Events uint64 `json:"events"`
	Hits   uint64 `json:"hits"`
	// Users is how many different users were hit.
	Users int `json:"users"`
	// Running compares with the version of the rule that runs, if one does.
	Running *RunningVersion `json:"running_version,omitempty"`
	// OnRecord compares with the flags of the rule on record, if they are known.
	OnRecord *Comparison `json:"flags_on_record,omitempty"`
	// Measured is set unless nothing was to be measured.
	Measured *Measure `json:"measured,omitempty"`
	// Curve is set if one was asked for.
	Curve *Curve `json:"curve,omitempty"`
	// Sample is some of the users hit: those for whom the hash of the seed and
	// their ID is lowest.
	Sample []Sampled `json:"sample,omitempty"`
	// Flags are the first hits as flags.
	Flags []Flag `json:"flags,omitempty"`
}

// Sampled is a user that the rule hits.
type Sampled struct {
	User uuid.UUID `json:"user"`
	// Path is where moderators open the user.
	Path string `json:"path"`
	Hits int    `json:"hits"`
	// FirstAt is the time of the first hit, Evidence the latest events that it
	// rests on, of EvidenceCount.
	FirstAt       Stamp      `json:"first_at"`
	EvidenceCount int        `json:"evidence_count"`
	Evidence      []Evidence `json:"evidence"`
}

// Evidence is an event that a hit rests on.
type Evidence struct {
	EventID    uuid.UUID       `json:"event_id"`
	Type       rule.Kind       `json:"type"`
	Actor      uuid.UUID       `json:"actor,omitzero"` // unless it is the user
	Target     uuid.UUID       `json:"target"`
	OccurredAt Stamp           `json:"occurred_at"`
	Position   events.Position `json:"position"`
}

// Flag is a flag that the rule raises.
type Flag struct {
	ID       uuid.UUID `json:"id"`
	RaisedAt time.Time `json:"raised_at"`
	// Payload is the data of the event that raises it.
	Payload json.RawMessage `json:"payload"`
}

// report puts together what was found.
func (b *backtest) report(ctx context.Context, t tried, ladders []ladder) (Report, error) {
	r := Report{Log: b.log.Name(), Since: orNil(b.Since), Until: orNil(b.Until)}
	byKind := make(map[rule.Kind]uint64)
	for p, run := range t.partitions {
		for kind, n := range run.events {
			byKind[kind] += n
			r.Events += n
		}
		add(&r.Whole, t.stats[p])
	}
	var all tally
	if b.crowd != nil {
		var err error
		if all, err = b.crowd.judge(ctx, b.known); err != nil {
			return Report{}, err
		}
	}
	hit := make([]map[uuid.UUID]struct{}, len(b.rules))
	for i, tried := range b.rules {
		one := RuleReport{Rule: tried.ID, Version: tried.Version(), Title: tried.Title, Mode: tried.Mode, Threshold: tried.Threshold}
		for _, kind := range tried.Events {
			one.Events += byKind[kind]
		}
		one.Hits, hit[i] = t.found(i)
		one.Users = len(hit[i])
		one.Running = b.running(t, i, one.Hits, hit[i])
		if b.Record.Flagged != nil {
			one.OnRecord = onRecord(hit[i], b.Record.Flagged[tried.ID], b.Sample)
		}
		if b.known != nil {
			one.Measured = b.measure(b.count(maps.Keys(hit[i])), all)
		}
		if b.Curve {
			one.Curve = b.curve(i, ladders[i], all)
		}
		if err := b.show(ctx, t, i, &one); err != nil {
			return Report{}, err
		}
		r.Rules = append(r.Rules, one)
	}
	r.Together = b.together(hit, all)
	return r, nil
}

// add adds up what engines have counted.
func add(sum *engine.Stats, s engine.Stats) {
	sum.Events += s.Events
	sum.Activities += s.Activities
	sum.Unreadable += s.Unreadable
	sum.Backwards += s.Backwards
	sum.Forgotten += s.Forgotten
	sum.Keys += s.Keys
}

func orNil(t time.Time) *Stamp {
	if t.IsZero() {
		return nil
	}
	s := Stamp(t)
	return &s
}

// show adds a rule's sample and first flags, with what they rest on.
func (b *backtest) show(ctx context.Context, t tried, i int, into *RuleReport) error {
	var first []engine.Hit
	users := newSample(b.Seed, b.Sample)
	for _, p := range t.partitions {
		first = append(first, p.rules[i].first...)
		users.merge(p.rules[i].sample)
	}
	for _, h := range firstOf(first, b.Sample) {
		f, err := b.flag(ctx, h)
		if err != nil {
			return err
		}
		into.Flags = append(into.Flags, f)
	}
	for _, user := range users.trim() {
		s, err := b.sampled(ctx, user, users.users[user])
		if err != nil {
			return err
		}
		into.Sample = append(into.Sample, s)
	}
	return nil
}

func (b *backtest) flag(ctx context.Context, h engine.Hit) (Flag, error) {
	shown, err := evidence.Read(ctx, b.log, h.Shown())
	if err != nil {
		return Flag{}, err
	}
	e, err := h.Flag(shown)
	return Flag{ID: e.Stream, RaisedAt: e.OccurredAt, Payload: e.Data}, err
}

func (b *backtest) sampled(ctx context.Context, user uuid.UUID, u *sampled) (Sampled, error) {
	rests := u.first.Evidence
	s := Sampled{User: user, Path: casePath + user.String(), Hits: u.hits, FirstAt: Stamp(u.first.At), EvidenceCount: len(rests)}
	shown, err := evidence.Read(ctx, b.log, rests[max(0, len(rests)-MaxShown):])
	if err != nil {
		return Sampled{}, err
	}
	for _, e := range shown {
		a, err := events.ParseActivity(e.Data)
		if err != nil {
			return Sampled{}, err
		}
		one := Evidence{
			EventID: e.ID, Type: rule.KindOf(e.Type), Target: a.Target, OccurredAt: Stamp(e.OccurredAt), Position: e.Position,
		}
		if e.Stream != user {
			one.Actor = e.Stream
		}
		s.Evidence = append(s.Evidence, one)
	}
	return s, nil
}

// Fit returns the report as JSON of at most so many bytes. To make it fit, first
// the flags are left out, then the lists of users are halved until they are gone,
// then the points of the curves are left out. If even that is too large it is
// returned all the same.
func (r Report) Fit(most int) (json.RawMessage, error) {
	cut := []func(*RuleReport){func(one *RuleReport) { one.Flags = nil }}
	longest := 0
	for _, one := range r.Rules {
		longest = max(longest, len(one.Sample), one.listed())
	}
	for n := longest / 2; longest > 0; n /= 2 {
		cut = append(cut, func(one *RuleReport) { one.shorten(n) })
		if n == 0 {
			break
		}
	}
	cut = append(cut, func(one *RuleReport) {
		if one.Curve != nil {
			one.Curve = &Curve{Quality: one.Curve.Quality}
		}
	})
	text, err := json.Marshal(r)
	for ; err == nil && len(text) > most && len(cut) > 0; cut = cut[1:] {
		r.Cut = true
		rules := make([]RuleReport, len(r.Rules))
		for i, one := range r.Rules {
			cut[0](&one)
			rules[i] = one
		}
		r.Rules = rules
		text, err = json.Marshal(r)
	}
	return text, err
}

// listed is the length of the longest list of users to compare with.
func (r *RuleReport) listed() (n int) {
	if c := r.OnRecord; c != nil {
		n = max(n, len(c.NewlyUsers), len(c.NoLongerUsers))
	}
	if v := r.Running; v != nil {
		n = max(n, len(v.NewlyUsers), len(v.NoLongerUsers))
	}
	return n
}

// shorten keeps at most n of each list of users.
func (r *RuleReport) shorten(n int) {
	r.Sample = r.Sample[:min(n, len(r.Sample))]
	if r.OnRecord != nil {
		c := r.OnRecord.shorten(n)
		r.OnRecord = &c
	}
	if r.Running != nil {
		v := *r.Running
		v.Comparison = v.shorten(n)
		r.Running = &v
	}
}

func (c Comparison) shorten(n int) Comparison {
	c.NewlyUsers = c.NewlyUsers[:min(n, len(c.NewlyUsers))]
	c.NoLongerUsers = c.NoLongerUsers[:min(n, len(c.NoLongerUsers))]
	return c
}
