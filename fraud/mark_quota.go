package fraud

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/flag"
)

// DefaultMarkQuota is how many users rules may mark on a day, all rules together.
const DefaultMarkQuota = 1000

// markQuota bounds what rules that mark can do on a day before a moderator sees to
// it. The day is that of the event that hit, in UTC; how many marks there are on it
// is counted in the fraud log. Each takes a claim on its number, so that instances
// that count at once do not come to more.
type markQuota struct {
	most     int // a day
	board    *flag.Board
	withheld *prometheus.CounterVec
}

func newMarkQuota(most int, b *flag.Board, r *prometheus.Registry) *markQuota {
	q := &markQuota{most: max(most, 0), board: b, withheld: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "meet5_fraud_marks_withheld_total",
		Help: "Marks that rules left to moderators because the day's quota was used up.",
	}, []string{"rule"})}
	if r != nil {
		q.withheld = registered(r, q.withheld)
	}
	return q
}

// follow makes the event with which a rule that marks follows up its flag: its
// confirmation, or a note that the quota is used up.
func (q *markQuota) follow(raised events.Event, h engine.Hit) (e events.Event, withheld bool, err error) {
	f := flag.Flag{ID: raised.Stream, User: h.User, Rule: h.Rule.ID, State: flag.Open, Version: raised.Version}
	day := flag.DayOf(h.At)
	n := q.board.MarksOn(day)
	if n < q.most {
		e, err = f.Decide(flag.Confirm, ruleStream(h.Rule.ID), flag.Text{Plain: "by the rule"}, h.At)
		e.ID = flag.MarkID(f.ID)
		e.Claims = []string{fmt.Sprintf("mark %d of %s", n+1, day)}
		return e, false, err
	}
	e, err = f.Annotate(ruleStream(h.Rule.ID), flag.Text{Plain: fmt.Sprintf("the day's quota of %d automatic marks is used up; left to a moderator", q.most)}, h.At)
	e.ID = events.DeriveID(f.ID, "left to a moderator")
	return e, true, err
}

// tell shows that a mark was withheld.
func (q *markQuota) tell(ctx context.Context, l *slog.Logger, raised events.Event, h engine.Hit) {
	q.withheld.WithLabelValues(h.Rule.ID).Inc()
	l.WarnContext(ctx, "the day's quota of automatic marks is used up, a flag is left to a moderator",
		"flag", raised.Stream, "rule", h.Rule.ID, "day", flag.DayOf(h.At), "quota", q.most)
}
