package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/meet5/backend/cmd/history"
	"github.com/meet5/backend/cmd/verify"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/events/subscription"
)

// mostFindings is how many of package verify's findings are listed for one log.
const mostFindings = 5

// check finds what is broken. All that was asked is settled; what follows the logs
// gets the time to catch up.
func (h *house) check(ctx context.Context) error {
	if err := h.quiet(ctx); err != nil {
		return err
	}
	h.profile.check()
	readers := make([]log.Reader, len(h.logs))
	for i, l := range h.logs {
		readers[i] = l
	}
	if err := h.compare(ctx, readers); errors.Is(err, events.ErrCorrupt) {
		h.found(history.Violation{Rule: Verified, Log: "house", Partition: history.NoPartition, Message: "a log cannot be read: " + err.Error()})
	} else if err != nil {
		return err
	}
	for _, v := range h.doors.tally.violations() {
		h.found(v)
	}
	for _, l := range h.logs {
		if err := h.verify(ctx, l); err != nil {
			return err
		}
	}
	if err := h.parked(ctx); err != nil {
		return err
	}
	for _, p := range h.all() {
		if err := p.failure(); err != nil {
			h.found(history.Violation{Rule: Crashed, Log: "house", Partition: history.NoPartition, Message: err.Error()})
		}
	}
	return nil
}

// compare holds the history and the read models against the logs.
func (h *house) compare(ctx context.Context, logs []log.Reader) error {
	broken, err := h.recorder.Check(ctx, logs...)
	if err != nil {
		return fmt.Errorf("check the history: %w", err)
	}
	want, users, err := history.Fold(ctx, h.direct.Activity)
	if err != nil {
		return err
	}
	serving, err := h.direct.Versions.Serving(ctx)
	if err != nil {
		return err
	}
	stale, err := history.CompareViews(ctx, want, h.direct.Versions.Store(serving), users)
	if err != nil {
		return err
	}
	for _, v := range slices.Concat(broken, stale) {
		h.found(v)
	}
	return nil
}

// parked finds what is parked: no event of the load is poisonous, and no fault makes
// one so.
func (h *house) parked(ctx context.Context) error {
	for service, ledger := range h.direct.Ledgers {
		list, err := ledger.Parked(ctx, subscription.Place{})
		if err != nil {
			return fmt.Errorf("look for what is parked by %s: %w", service, err)
		}
		for _, p := range list {
			h.found(history.Violation{Rule: Parked, Log: p.Log, Partition: p.Partition, Message: fmt.Sprintf("%v parked the event at %d: %s", p.Place, p.Sequence, p.Reason)})
		}
	}
	return nil
}

// quiet waits until everything that follows a log has come to its end.
func (h *house) quiet(ctx context.Context) error {
	for _, wait := range []struct {
		who   string
		until func(context.Context) error
	}{
		{"the services did not catch up", func(ctx context.Context) error { return h.ready(ctx, serviceNames()...) }},
		{"the read models did not catch up", h.readModelsFollow},
		{"the witness did not catch up", h.witness.catchUp},
		{"the profile did not come back", func(ctx context.Context) error {
			return again(ctx, settlePause, func() error {
				if _, ok := h.profile.look(ctx); !ok {
					return fmt.Errorf("the profile of %s cannot be read", h.profile.devices[0].login)
				}
				return nil
			})
		}},
	} {
		patience := h.patience()
		patient, cancel := context.WithTimeout(ctx, patience)
		err := wait.until(patient)
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			h.found(stuck(wait.who, patience, err))
		}
	}
	return nil
}

// verify checks a log by itself.
func (h *house) verify(ctx context.Context, l *mongolog.Store) error {
	var found []history.Violation
	if _, err := verify.Log(ctx, l, nil, func(f verify.Finding) {
		if n := len(found); n == mostFindings {
			found[n-1].More++
			return
		}
		found = append(found, history.Violation{Rule: Verified, Log: f.Log, Partition: f.Partition, Message: f.String()})
	}, func(int) {}); err != nil {
		return fmt.Errorf("verify the %s log: %w", l.Name(), err)
	}
	for _, v := range found {
		h.found(v)
	}
	return nil
}
