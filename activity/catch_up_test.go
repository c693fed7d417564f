package activity

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

func TestCallersOfCatchUpShareOneReadingThatBeganAfterThem(t *testing.T) {
	began := make(chan int, 10)
	finish := make(chan error)
	readings := 0 // of the one goroutine that reads
	c := &catchUp{timeout: time.Minute, read: func(context.Context) error {
		readings++
		began <- readings
		return <-finish
	}}
	first := make(chan error, 1)
	go func() { first <- c.wait(context.Background()) }()
	<-began

	// These came after the reading under way began, so that it is not theirs.
	const callers = 50
	var joined, done sync.WaitGroup
	errs := make(chan error, callers)
	for range callers {
		joined.Add(1)
		done.Go(func() {
			r := c.join()
			joined.Done()
			<-r.done
			errs <- r.err
		})
	}
	joined.Wait()
	finish <- nil
	if err := <-first; err != nil {
		t.Error(err)
	}
	if n := <-began; n != 2 {
		t.Fatalf("reading %d began", n)
	}
	failure := errors.New("out of reach")
	finish <- failure
	done.Wait()
	for range callers {
		if err := <-errs; !errors.Is(err, failure) {
			t.Errorf("a caller got %v", err)
		}
	}
	select {
	case n := <-began:
		t.Errorf("reading %d began, and no one asked for it", n)
	default:
	}
}

func TestCatchUpEndsWithItsCaller(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	c := &catchUp{timeout: time.Minute, read: func(context.Context) error { <-release; return nil }}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := c.wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCatchUpEndsWithItsTimeout(t *testing.T) {
	c := &catchUp{timeout: time.Millisecond, read: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
	if err := c.wait(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
