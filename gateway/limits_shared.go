package gateway

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	neturl "net/url"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"
)

const (
	// sharedTimeout bounds the question how many requests are left; who gets no
	// answer is counted by this gateway alone.
	sharedTimeout = 100 * time.Millisecond
	// sharedDial bounds connecting to the server.
	sharedDial = 2 * time.Second
	// sharedPause is for how long a server that did not answer is not asked.
	sharedPause = time.Second
	// sharedPrefix begins the keys of buckets.
	sharedPrefix = "meet5:rate:"
)

// takeScript takes one token of a bucket, by the server's clock, so that those of
// gateways need not agree. What is kept of a bucket is when it will be full again
// (GCRA's theoretical arrival time), and no longer than until then.
//
// ARGV: the time of one token and the number of tokens in a full bucket. It returns
// how long to wait, 0 if a token was taken, and until when the bucket is not full.
// All times are in microseconds.
const takeScript = `
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local each, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = tonumber(redis.call('GET', KEYS[1]) or now)
if full < now then full = now end
local after = full + each
local wait = after - now - each * most
if wait > 0 then return {wait, full - now} end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
return {0, after - now}
`

// sharedLimiter counts rates together with other gateways, in Valkey or Redis. It
// is safe for concurrent use.
type sharedLimiter struct {
	option valkey.ClientOption
	script *valkey.Lua
	log    *slog.Logger
	now    func() time.Time

	client    atomic.Pointer[valkey.Client]
	restUntil atomic.Int64 // Unix ns; the server is not asked before
	away      atomic.Bool  // the last question was not answered

	shared, local atomic.Uint64 // requests that were counted so
}

// newSharedLimiter does no I/O: run connects.
func newSharedLimiter(url string, log *slog.Logger, now func() time.Time) (*sharedLimiter, error) {
	o, err := valkey.ParseURL(url)
	if err != nil {
		if bad, ok := errors.AsType[*neturl.Error](err); ok {
			err = bad.Err // without the URL, which may hold a password
		}
		return nil, fmt.Errorf("the URL of the server that rates are counted in: %w", err)
	}
	o.DisableCache, o.DisableRetry = true, true
	o.ConnWriteTimeout = sharedPause
	o.Dialer = net.Dialer{Timeout: sharedDial}
	return &sharedLimiter{option: o, script: valkey.NewLuaScript(takeScript), log: log, now: now}, nil
}

// run connects, as often as it takes, and disconnects when ctx ends.
func (l *sharedLimiter) run(ctx context.Context) {
	tick := time.NewTicker(sharedPause)
	defer tick.Stop()
	for told := false; ; told = true {
		client, err := valkey.NewClient(l.option)
		if err == nil {
			l.client.Store(&client)
			<-ctx.Done()
			l.client.Store(nil)
			client.Close()
			return
		}
		if !told {
			l.fell(ctx, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// take takes a token of a bucket. It returns how long to wait for one, 0 if it was
// taken, and how long until the bucket is full; ok is false if the server does not
// say, and nobody has waited for it in vain for long.
func (l *sharedLimiter) take(ctx context.Context, key bucketKey) (wait, untilFull time.Duration, ok bool) {
	client := l.client.Load()
	if client == nil || l.now().UnixNano() < l.restUntil.Load() {
		l.local.Add(1)
		return 0, 0, false
	}
	asking, cancel := context.WithTimeout(ctx, sharedTimeout)
	defer cancel()
	most := limitOf[key.class]
	answer, err := l.script.Exec(asking, *client, []string{key.shared()}, most.arguments()).AsIntSlice()
	if err != nil || len(answer) != 2 {
		if ctx.Err() == nil {
			l.restUntil.Store(l.now().Add(sharedPause).UnixNano())
			l.fell(ctx, err)
		}
		l.local.Add(1)
		return 0, 0, false
	}
	l.shared.Add(1)
	if l.away.CompareAndSwap(true, false) {
		l.log.InfoContext(ctx, "rates are counted together again")
	}
	return time.Duration(answer[0]) * time.Microsecond, time.Duration(answer[1]) * time.Microsecond, true
}

// fell notes that the server does not answer.
func (l *sharedLimiter) fell(ctx context.Context, err error) {
	if l.away.CompareAndSwap(false, true) {
		l.log.WarnContext(ctx, "rates are counted by this gateway alone until the server answers that counts them together", "error", err)
	}
}

// together says whether rates are counted together with other gateways at present.
func (l *sharedLimiter) together() bool { return l.client.Load() != nil && !l.away.Load() }

// shared is the bucket's key on the server.
func (k bucketKey) shared() string {
	b := make([]byte, 0, len(sharedPrefix)+4+2*len(k.id))
	b = append(b, sharedPrefix...)
	b = append(b, '0'+byte(k.class), ':', '0'+k.by, ':')
	return string(hex.AppendEncode(b, k.id[:]))
}
