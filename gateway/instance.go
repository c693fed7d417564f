package gateway

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/gateway/wire"
)

// kind is what a request occupies an instance with. Each has room of its own, so
// that those which take long leave room for the others.
type kind uint8

const (
	ordinary kind = iota
	bulky         // a batch
	streamed      // an answer without a foreseeable end
	kinds
)

// instanceRoom is how many requests one instance may have under way; it is passed
// over when it is full.
var instanceRoom = [kinds]int64{ordinary: 512, bulky: 32, streamed: 20_480}

// windows is how many intervals the balance is measured over: a minute.
const windows = 6

// instance is one process of a service. It has connections of its own, so that
// they end with it.
type instance struct {
	address
	url *url.URL
	// wire sends what it takes, and transport the rest: long bodies, TLS.
	wire      *wire.Pool // nil: takes nothing
	transport *http.Transport
	// weight decides by rendezvous: a partition belongs to the instance with the
	// greatest one, so that the loss of an instance moves only its own partitions.
	// It is the same in every gateway.
	weight [events.ActivityPartitions]uint64

	load     [kinds]atomic.Int64 // requests under way
	requests atomic.Uint64       // chosen by load, ever
	// share decides between instances of the same load: that which was chosen less.
	// One that comes or returns begins with that of the others, and is not flooded.
	share atomic.Uint64

	unreachableUntil atomic.Int64 // Unix ns; it could not be connected to
	ejectedUntil     atomic.Int64 // Unix ns; 0: is not
	streak           atomic.Int64 // failures in a row
	good, bad        atomic.Uint64
	gone             atomic.Bool // DNS names it no longer

	// Guarded by the balancer's lock.
	ejections int             // how often of late
	calmSince time.Time       // the end of the last one
	marks     [windows]uint64 // requests at the end of the last intervals, oldest first
}

func newInstance(a address, resolver *net.Resolver, roots *x509.CertPool, streams bool) *instance {
	i := &instance{address: a, url: &url.URL{Scheme: a.scheme, Host: a.host}}
	dial := (&net.Dialer{Timeout: dialTimeout, Resolver: resolver}).DialContext
	i.transport = &http.Transport{
		DialContext:         dial,
		TLSHandshakeTimeout: tlsTimeout,
		MaxIdleConnsPerHost: idleConns,
		IdleConnTimeout:     idleFor,
		DisableCompression:  true, // pass on what was asked for and answered
	}
	// A zone, or a name that is not plain ASCII, is for net/http to translate.
	if a.scheme == "http" && httpguts.ValidHostHeader(a.host) && !strings.Contains(a.host, "%") {
		c := wire.Config{Address: a.host, Host: a.host, Dial: dial, MaxIdle: idleConns, IdleFor: idleFor, ReadBuffer: readAhead}
		if i.url.Port() == "" {
			c.Address = net.JoinHostPort(i.url.Hostname(), "80")
		}
		if streams {
			c.ReadBuffer = streamReadAhead
		}
		i.wire = wire.New(c)
	}
	if streams {
		i.transport.ReadBufferSize, i.transport.WriteBufferSize = streamCopySize, streamCopySize
	}
	if a.scheme == "https" { // without a ServerName it is that of the URL
		i.transport.TLSClientConfig = &tls.Config{ServerName: a.serverName, RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	for p := range i.weight {
		sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", p, a.host))
		i.weight[p] = binary.BigEndian.Uint64(sum[:])
	}
	return i
}

// enter takes room for a request.
func (i *instance) enter(k kind) bool {
	if i.load[k].Add(1) > instanceRoom[k] {
		i.load[k].Add(-1)
		return false
	}
	return true
}

// leave gives it back. The last one closes the connections of an instance that has
// left.
func (i *instance) leave(k kind) {
	i.load[k].Add(-1)
	if i.gone.Load() {
		i.closeIfIdle()
	}
}

func (i *instance) closeIfIdle() {
	if !i.busy() {
		i.closeIdle()
	}
}

func (i *instance) closeIdle() {
	i.transport.CloseIdleConnections()
	if i.wire != nil {
		i.wire.CloseIdle()
	}
}

func (i *instance) busy() bool {
	for k := range i.load {
		if i.load[k].Load() > 0 {
			return true
		}
	}
	return false
}

// sound says whether an instance is to be asked first.
func (i *instance) sound(now time.Time) bool {
	at := now.UnixNano()
	return i.unreachableUntil.Load() <= at && i.ejectedUntil.Load() <= at
}
