package run

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestExitCodes(t *testing.T) {
	for name, test := range map[string]struct {
		main func(ctx context.Context) error
		code int
		said string
	}{
		"done is 0":                    {func(context.Context) error { return nil }, 0, ""},
		"done early is 0":              {func(context.Context) error { return fmt.Errorf("help: %w", ErrDone) }, 0, ""},
		"failed is 1":                  {func(context.Context) error { return errors.New("no disk") }, 1, "meet5: no disk\n"},
		"wrong usage is 2":             {func(context.Context) error { return fmt.Errorf("flags: %w", &UsageError{errors.New("no --data")}) }, 2, "meet5: flags: no --data\n"},
		"a cancellation alone is 1":    {func(context.Context) error { return context.Canceled }, 1, "meet5: context canceled\n"},
		"ended by SIGTERM is 0":        {func(ctx context.Context) error { return signalled(ctx, syscall.SIGTERM, nil) }, 0, ""},
		"ended by SIGINT is 0":         {func(ctx context.Context) error { return signalled(ctx, os.Interrupt, nil) }, 0, ""},
		"failed after SIGTERM is 1":    {func(ctx context.Context) error { return signalled(ctx, syscall.SIGTERM, errors.New("log not closed")) }, 1, "meet5: run: context canceled\nlog not closed\n"},
		"a deadline is no end as told": {func(context.Context) error { return context.DeadlineExceeded }, 1, "meet5: context deadline exceeded\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			code := execute(t.Context(), "meet5", &stderr, test.main)
			if code != test.code || stderr.String() != test.said {
				t.Errorf("got %d and %q", code, stderr.String())
			}
		})
	}
	var stderr bytes.Buffer
	code := execute(t.Context(), "meet5", &stderr, func(context.Context) error { panic("oh") })
	if code != 1 || !strings.HasPrefix(stderr.String(), "meet5: panic: oh\n") || !strings.Contains(stderr.String(), "run_test.go") {
		t.Errorf("a panic: %d and %q", code, stderr.String())
	}
}

// signalled sends this process a signal and returns as a service would.
func signalled(ctx context.Context, s os.Signal, failure error) error {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	if err := self.Signal(s); err != nil {
		return err
	}
	<-ctx.Done()
	if failure != nil {
		return errors.Join(fmt.Errorf("run: %w", ctx.Err()), failure)
	}
	return fmt.Errorf("run: %w", ctx.Err())
}

func TestGroup(t *testing.T) {
	boom := errors.New("boom")
	untilEnd := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	fails := func(context.Context) error { return boom }
	returns := func(context.Context) error { return nil }

	t.Run("nothing to run is done", func(t *testing.T) {
		if err := Group(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("one that returns leaves the others running", func(t *testing.T) {
		returned := make(chan struct{})
		err := Group(t.Context(),
			func(context.Context) error { close(returned); return nil },
			func(ctx context.Context) error { <-returned; return ctx.Err() })
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("the first error ends the others and is returned", func(t *testing.T) {
		var ended atomic.Int32
		err := Group(t.Context(), returns, fails, func(ctx context.Context) error {
			<-ctx.Done()
			ended.Add(1)
			return errors.New("another, later")
		})
		if !errors.Is(err, boom) || ended.Load() != 1 {
			t.Errorf("got %v, %d ended", err, ended.Load())
		}
	})
	t.Run("a panic is an error with its stack, and ends the others", func(t *testing.T) {
		err := Group(t.Context(), untilEnd, func(context.Context) error { panic("oh") })
		if err == nil || !strings.HasPrefix(err.Error(), "panic: oh\n") || !strings.Contains(err.Error(), "run_test.go") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the end of the context is a normal end", func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		err := Group(ctx, untilEnd, untilEnd, func(context.Context) error { end(); return nil })
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("a failure after the end of the context is one", func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		err := Group(ctx, untilEnd, func(ctx context.Context) error {
			end()
			<-ctx.Done()
			return fmt.Errorf("drain: %w", boom)
		})
		if !errors.Is(err, boom) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a cancellation of a function's own making is a failure", func(t *testing.T) {
		if err := Group(t.Context(), func(context.Context) error { return context.Canceled }); err == nil {
			t.Error("it passed for an end")
		}
	})
}

// start runs HTTP on a free port and returns its address, and what ends it.
func start(t *testing.T, s Server) (addr string, end context.CancelFunc, result <-chan error) {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	listening, ended := make(chan net.Addr, 1), make(chan error, 1)
	s.Addr = "127.0.0.1:0"
	s.OnListen = func(a net.Addr) { listening <- a }
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		ended <- HTTP(ctx, s)
	}()
	t.Cleanup(func() {
		end()
		<-gone
		http.DefaultClient.CloseIdleConnections()
	})
	return (<-listening).String(), end, ended
}

func TestADrainLetsRequestsUnderWayFinishAndAcceptsNoMore(t *testing.T) {
	arrived, finish := make(chan struct{}), make(chan struct{})
	addr, end, result := start(t, Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		select {
		case <-finish:
		case <-r.Context().Done():
			t.Error("the request was ended by the drain")
		}
		_, _ = io.WriteString(w, "finished")
	})})
	type got struct {
		body string
		err  error
	}
	answered := make(chan got, 1)
	go func() {
		res, err := http.Get("http://" + addr)
		if err != nil {
			answered <- got{err: err}
			return
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		answered <- got{string(data), err}
	}()
	<-arrived
	end()
	for { // until the listener is closed
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		conn.Close()
	}
	select {
	case err := <-result:
		t.Fatalf("it did not wait for the request: %v", err)
	default:
	}
	close(finish)
	if g := <-answered; g.err != nil || g.body != "finished" {
		t.Errorf("got %q, %v", g.body, g.err)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestAnEndlessAnswerEndsWhenTheDrainBegins(t *testing.T) {
	arrived := make(chan struct{})
	addr, end, result := start(t, Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		close(arrived)
		select {
		case <-Draining(r.Context()):
		case <-r.Context().Done():
			t.Error("it was cut off, not told")
		}
	})})
	res, err := http.Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	<-arrived
	end()
	if err := <-result; err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Errorf("the answer was cut: %v", err)
	}
	if Draining(context.Background()) != nil {
		t.Error("outside of a server something drains")
	}
}

func TestARequestThatOutlastsTheDrainIsCutOff(t *testing.T) {
	arrived, returned := make(chan struct{}), make(chan struct{})
	addr, end, result := start(t, Server{
		ShutdownTimeout: time.Millisecond,
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			defer close(returned)
			close(arrived)
			<-r.Context().Done()
		}),
	})
	cut := make(chan struct{})
	go func() {
		defer close(cut)
		if res, err := http.Get("http://" + addr); err == nil {
			res.Body.Close()
			t.Error("it was answered")
		}
	}()
	<-arrived
	end()
	if err := <-result; err == nil || !strings.Contains(err.Error(), "still under way after 1ms") {
		t.Errorf("got %v", err)
	}
	<-returned
	<-cut
}

func TestATakenAddressIsAnError(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	err = HTTP(t.Context(), Server{Addr: taken.Addr().String(), Handler: http.NotFoundHandler()})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("got %v", err)
	}
}

func TestAListenerThatFailsEndsTheServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	err = HTTP(t.Context(), Server{Listener: l, Handler: http.NotFoundHandler(), OnListen: func(net.Addr) { l.Close() }})
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestHeadersThatAreTooLargeAreRefused(t *testing.T) {
	addr, _, _ := start(t, Server{Handler: http.NotFoundHandler()})
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("a", 40<<10)+"\r\n\r\n")
	}()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %s", res.Status)
	}
}
