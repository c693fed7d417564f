package versions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// lease is the right to bring one version up to date and have it serve.
type lease struct {
	registry *Registry
	version  int
	owner    string

	mu   sync.Mutex
	last Progress // that is known
}

// take takes the lease on the version that choose names. Choose may change the
// document; it is not asked while another one works.
func (r *Registry) take(ctx context.Context, choose func(d *document) (version int, started time.Time, err error)) (*lease, error) {
	l := &lease{registry: r, owner: newOwner()}
	err := r.change(ctx, func(d *document) error {
		now := r.now()
		if w := d.Work; w != nil && w.Until.After(now) {
			return fmt.Errorf("%w: %s works on version %d since %s", ErrBusy, w.Owner, w.Version, w.Started.UTC().Format(time.RFC3339))
		}
		version, started, err := choose(d)
		if err != nil {
			return err
		}
		l.version = version
		d.Work = &Work{Version: version, Owner: l.owner, Started: started, Until: now.Add(Lease)}
		return nil
	})
	return l, err
}

// holds says whether the document still says so.
func (l *lease) holds(d *document) bool { return d.Work != nil && d.Work.Owner == l.owner }

// renew prolongs the lease and writes down the progress.
func (l *lease) renew(ctx context.Context) error {
	l.mu.Lock()
	p := l.last
	l.mu.Unlock()
	return l.registry.change(ctx, func(d *document) error {
		if !l.holds(d) {
			return ErrLost
		}
		w := *d.Work
		w.Until = l.registry.now().Add(Lease)
		w.Done, w.Total, w.Rate = p.Done, p.Total, p.Rate
		d.Work = &w
		return nil
	})
}

// keep renews the lease until ctx ends, and calls lost when another one has it, or
// when it could not be renewed for as long as it lasts.
func (l *lease) keep(ctx context.Context, lost context.CancelCauseFunc) {
	tick := time.NewTicker(l.registry.opts.RenewEvery)
	defer tick.Stop()
	for since := l.registry.opts.Clock(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked := l.registry.opts.Clock()
		err := l.renew(ctx)
		switch {
		case err == nil:
			since = asked
		case errors.Is(err, ErrLost):
			lost(err)
			return
		case l.registry.opts.Clock().Sub(since) >= Lease:
			lost(fmt.Errorf("%w: %w", ErrLost, err))
			return
		}
	}
}

// serve has the version serve, in one write, and ends the lease. It tries until
// that is known to be done, another one has the lease, or ctx ends.
func (l *lease) serve(ctx context.Context) (from int, err error) {
	for {
		err = l.registry.change(ctx, func(d *document) error {
			switch {
			case l.holds(d):
			case d.Serving == l.version:
				return errNothing // an earlier try has done it, though no answer came
			default:
				return ErrLost
			}
			now := l.registry.now()
			from = d.Serving
			d.Kept = append(without(d.Kept, l.version), Kept{Version: d.Serving, Since: now})
			slices.SortFunc(d.Kept, func(a, b Kept) int { return a.Version - b.Version })
			d.Serving, d.Since, d.Work = l.version, now, nil
			return nil
		})
		if err == nil || errors.Is(err, ErrLost) || ctx.Err() != nil {
			return from, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(serveAgain):
		}
	}
}

func without(kept []Kept, version int) []Kept {
	return slices.DeleteFunc(slices.Clone(kept), func(k Kept) bool { return k.Version == version })
}

// release ends the lease at once, so that another one need not wait for its end.
// What was done so far stays.
func (l *lease) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	err := l.registry.change(ctx, func(d *document) error {
		if !l.holds(d) {
			return ErrLost
		}
		w := *d.Work
		w.Until = l.registry.now()
		d.Work = &w
		return nil
	})
	if err != nil && !errors.Is(err, ErrLost) {
		l.registry.opts.Logger.WarnContext(ctx, "the lease could not be given back; it ends by itself", "within", Lease, "error", err)
	}
}
