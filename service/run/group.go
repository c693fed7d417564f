package run

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
)

// Group runs the functions at once and waits for all of them. The first error
// ends the context of the others and is what Group returns; a panic is an error.
// A function that returns nil leaves the others running. After ctx itself has
// ended, context.Canceled is a function's normal end and no error.
func Group(ctx context.Context, functions ...func(ctx context.Context) error) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wait sync.WaitGroup
	var once sync.Once
	var first error
	for _, f := range functions {
		wait.Go(func() {
			err := contain(inner, f)
			if err == nil || endedAsTold(ctx, err) {
				return
			}
			once.Do(func() {
				first = err
				cancel(err)
			})
		})
	}
	wait.Wait()
	return first
}

// contain makes an error of a panic.
func contain(ctx context.Context, f func(ctx context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return f(ctx)
}
