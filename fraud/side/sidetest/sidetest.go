// Package sidetest is the conformance suite of the fraud service's side data.
// Every adapter's tests run it.
package sidetest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/meet5/backend/fraud/labels"
)

// Run checks a store. Each call of open returns a new, empty one.
func Run(t *testing.T, open func(t *testing.T) labels.Store) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*testing.T, labels.Store)
	}{
		{"labels come back whole and sorted", sorted},
		{"the same label is there once", once},
		{"labels put by many at once are there once", onceAtOnce},
		{"more labels than a page come back", many},
		{"a listing may be left early", leftEarly},
		{"malformed labels are refused and nothing is written", refused},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC)

func user(n int) uuid.UUID { return uuid.UUID{byte(n), byte(n >> 8), 1} }

func put(t *testing.T, s labels.Store, list ...labels.Label) {
	t.Helper()
	if err := s.Put(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

func all(t *testing.T, s labels.Store) (out []labels.Label) {
	t.Helper()
	for l, err := range s.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

func expect(t *testing.T, s labels.Store, want ...labels.Label) {
	t.Helper()
	if diff := cmp.Diff(want, all(t, s)); diff != "" {
		t.Fatalf("labels (-want +got):\n%s", diff)
	}
}

func sorted(t *testing.T, s labels.Store) {
	expect(t, s)
	list := []labels.Label{
		{User: user(1), At: time.Date(1960, 1, 1, 0, 0, 0, 1000, time.UTC), Label: "before 1970", Source: "old.csv"},
		{User: user(1), At: start, Label: "a", Source: ""},
		{User: user(1), At: start, Label: "a", Source: "a b"},
		{User: user(1), At: start, Label: "b", Source: "a b"},
		{User: user(1), At: start.Add(time.Microsecond), Label: "zu schnell, ü", Source: "a"},
		{User: user(2), At: start.Add(-time.Hour), Label: "1", Source: "x"},
	}
	mixed := slices.Clone(list)
	slices.Reverse(mixed)
	put(t, s, mixed...)
	expect(t, s, list...)
}

func once(t *testing.T, s labels.Store) {
	l := labels.Label{User: user(1), At: start, Label: "1", Source: "a"}
	other := l
	other.Label = "2"
	put(t, s, l, l)
	put(t, s, l, other)
	put(t, s, l)
	expect(t, s, l, other)
}

func onceAtOnce(t *testing.T, s labels.Store) {
	var list []labels.Label
	for i := range 50 {
		list = append(list, labels.Label{User: user(i), At: start, Label: "1", Source: "a"})
	}
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { errs[i] = s.Put(context.Background(), list) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	expect(t, s, list...)
}

func many(t *testing.T, s labels.Store) {
	var list []labels.Label
	for i := range 2500 {
		list = append(list, labels.Label{User: user(i%7 + 1), At: start.Add(time.Duration(i) * time.Second), Label: "1", Source: "a"})
	}
	put(t, s, list...)
	slices.SortFunc(list, func(a, b labels.Label) int {
		if c := strings.Compare(a.User.String(), b.User.String()); c != 0 {
			return c
		}
		return a.At.Compare(b.At)
	})
	expect(t, s, list...)
}

func leftEarly(t *testing.T, s labels.Store) {
	put(t, s, labels.Label{User: user(1), At: start, Label: "1"}, labels.Label{User: user(2), At: start, Label: "1"})
	for l, err := range s.All(t.Context()) {
		if err != nil || l.User != user(1) {
			t.Fatalf("%v, %v", l, err)
		}
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	failed := false
	for _, err := range s.All(ctx) {
		failed = err != nil
	}
	if !failed {
		t.Fatal("a listing whose context has ended ends without an error")
	}
}

func refused(t *testing.T, s labels.Store) {
	good := labels.Label{User: user(1), At: start, Label: "1", Source: "a"}
	for name, change := range map[string]func(*labels.Label){
		"no user":      func(l *labels.Label) { l.User = uuid.Nil },
		"no time":      func(l *labels.Label) { l.At = time.Time{} },
		"no label":     func(l *labels.Label) { l.Label = "" },
		"long label":   func(l *labels.Label) { l.Label = strings.Repeat("x", labels.MaxText+1) },
		"long source":  func(l *labels.Label) { l.Source = strings.Repeat("x", labels.MaxText+1) },
		"zero byte":    func(l *labels.Label) { l.Label = "a\x00b" },
		"zero byte, 2": func(l *labels.Label) { l.Source = "a\x00b" },
	} {
		bad := good
		change(&bad)
		if err := s.Put(t.Context(), []labels.Label{good, bad}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := s.Put(t.Context(), nil); err == nil {
		t.Error("no labels: accepted")
	}
	if err := s.Put(t.Context(), make([]labels.Label, labels.MaxBatch+1)); err == nil {
		t.Error("too many labels: accepted")
	}
	expect(t, s)
}
