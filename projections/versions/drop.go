package versions

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/meet5/backend/projections/mongostore"
)

// Drop deletes a version that is kept, or whose rebuild was given up. It refuses
// the one that serves, one that somebody works on, and, for Grace, one that has
// just been replaced: services may still read it. A drop that was killed is ended
// by another one.
func (r *Registry) Drop(ctx context.Context, version int) error {
	// First nobody may begin to use it, then it goes.
	if err := r.change(ctx, func(d *document) error { return r.condemn(d, version) }); err != nil {
		return fmt.Errorf("drop version %d: %w", version, err)
	}
	if err := mongostore.DropVersion(ctx, r.db, version); err != nil {
		return fmt.Errorf("drop version %d: %w", version, err)
	}
	err := r.change(ctx, func(d *document) error {
		d.Dropping = slices.DeleteFunc(slices.Clone(d.Dropping), func(n int) bool { return n == version })
		return nil
	})
	if err != nil {
		return fmt.Errorf("drop version %d: %w", version, err)
	}
	return nil
}

// condemn takes the version out of those that may serve.
func (r *Registry) condemn(d *document, version int) error {
	now := r.now()
	if slices.Contains(d.Dropping, version) {
		return nil
	}
	if version == d.Serving {
		return fmt.Errorf("%w: it serves; switch to another one first", ErrRefused)
	}
	if w := d.Work; w != nil && w.Version == version {
		if w.Until.After(now) {
			return fmt.Errorf("%w: %s works on it since %s", ErrRefused, w.Owner, w.Started.UTC().Format(time.RFC3339))
		}
		d.Work = nil
		if !d.has(version) {
			d.Dropping = append(slices.Clone(d.Dropping), version)
			return nil
		}
	}
	at := slices.IndexFunc(d.Kept, func(k Kept) bool { return k.Version == version })
	if at < 0 {
		return fmt.Errorf("%w: there is no such version; %s", ErrRefused, d.keptText())
	}
	if left := Grace - now.Sub(d.Kept[at].Since); left > 0 {
		return fmt.Errorf("%w: services may still read it, since it served until a moment ago; try again in %v", ErrRefused, left.Round(time.Second)+time.Second)
	}
	d.Kept = without(d.Kept, version)
	d.Dropping = append(slices.Clone(d.Dropping), version)
	return nil
}
