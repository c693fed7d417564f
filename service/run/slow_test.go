package run

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// serve runs a server for the rest of the test.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- HTTP(ctx, Server{Listener: listener, Handler: handler}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// A slowloris sends a header line now and then for ever. Whatever its pace, it is
// cut off, and meanwhile others are served.
func TestASlowlorisIsCutOff(t *testing.T) {
	at := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })
	const many = 50
	ends := make(chan error, many)
	for range many {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		go func() {
			drip := time.NewTicker(100 * time.Millisecond)
			defer drip.Stop()
			_, err := fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n")
			for n := 0; err == nil; n++ {
				<-drip.C
				_, err = fmt.Fprintf(c, "X-%d: y\r\n", n)
			}
			ends <- err
		}()
	}
	res, err := http.Get("http://" + at) //nolint:noctx // of a test
	if err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("meanwhile: %v %v", res, err)
	} else {
		_ = res.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	for range many { // a test that waits for ever is one that fails
		<-ends
	}
}

func TestHeadersHaveABound(t *testing.T) {
	at := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })
	for name, head := range map[string]string{
		"one long line": "X: " + strings.Repeat("y", 64<<10) + "\r\n",
		"many lines":    strings.Repeat("X: y\r\n", 16<<10),
	} {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n", head) }()
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: %v %v", name, res, err)
		}
		_ = c.Close()
	}
}

// A connection whose peer does not read ends by itself.
func TestWhoDoesNotReadIsCutOff(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := impatient{listener, 50 * time.Millisecond}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	piece := make([]byte, 1<<16)
	for err == nil {
		_, err = server.Write(piece)
	}
	if !os.IsTimeout(err) {
		t.Errorf("it ended with %v", err)
	}
}
