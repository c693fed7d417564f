package projections

import (
	"context"
	"sync"
)

// door lets readers in, and keeps them out for a moment while what they read is
// exchanged.
type door struct {
	mu     sync.Mutex
	inside int
	opened chan struct{} // while shut; closed when it opens
	left   chan struct{} // while shut; gets one when nobody is inside
}

// enter waits until the door is open. Who has entered must leave.
func (d *door) enter(ctx context.Context) error {
	for {
		d.mu.Lock()
		opened := d.opened
		if opened == nil {
			d.inside++
			d.mu.Unlock()
			return nil
		}
		d.mu.Unlock()
		select {
		case <-opened:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d *door) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inside--; d.inside == 0 && d.left != nil {
		d.left <- struct{}{}
		d.left = nil
	}
}

// shut lets nobody in any more and waits until those inside have left. The door
// must be opened in any case, also when ctx ended first. One caller at a time.
func (d *door) shut(ctx context.Context) error {
	left := make(chan struct{}, 1)
	d.mu.Lock()
	d.opened = make(chan struct{})
	if d.inside == 0 {
		left <- struct{}{}
	} else {
		d.left = left
	}
	d.mu.Unlock()
	select {
	case <-left:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *door) open() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.opened)
	d.opened, d.left = nil, nil
}
