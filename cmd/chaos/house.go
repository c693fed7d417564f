package chaos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/cmd/history"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log/mongolog"
)

const (
	// instances of each service.
	instances = 2
	// startPatience bounds how long a house may take to be ready at first. A
	// machine that is busy takes its time.
	startPatience = 3 * time.Minute
	// lostPatience is by how much shorter waits are in a house that is stuck.
	lostPatience = 10
	// readyPause is the pause between two looks at whether something is ready.
	readyPause = 50 * time.Millisecond
	// firstPort and lastPort are where the programs listen: below the ports that
	// systems take for outgoing connections, so that a program that is started
	// again finds its own still free.
	firstPort, lastPort = 12_000, 19_999
)

// The services, in the order in which they are started.
const (
	userService        = "user"
	activityService    = "activity"
	fraudService       = "fraud"
	projectionsService = "projections"
	gatewayService     = "gateway"
)

func serviceNames() []string {
	return []string{userService, activityService, fraudService, projectionsService, gatewayService}
}

// house is a whole backend of processes, with clients who know what they were
// told.
type house struct {
	options          *Options
	services         *services
	broker, database *proxy
	direct           *backend.Stores   // past the proxies
	logs             []*mongolog.Store // the same way
	through          *backend.Stores   // through them
	writer           *writer           // nil if no fault needs it
	programs         map[string][]*process
	addresses        map[string][]string
	prefix           string

	recorder *history.Recorder
	witness  *witness
	doors    *doors
	members  []*account
	profile  *profile
	probes   [2]*prober
	runs     int // begun

	mu         sync.Mutex
	violations []history.Violation // found on the way
	closers    []func() error      // last first
}

// open starts a house. It is ready when open returns; the caller closes it.
func open(ctx context.Context, o *Options, ownWriter bool) (opened *house, err error) {
	h := &house{
		options: o, prefix: "chaos-" + uuid.NewString()[:8], recorder: history.NewRecorder(),
		programs: make(map[string][]*process), addresses: make(map[string][]string),
	}
	defer func() {
		if err != nil {
			said := h.tails()
			err = errors.Join(err, h.close())
			if said != "" {
				err = fmt.Errorf("%w\n%s", err, said)
			}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for _, step := range []func(context.Context) error{
		h.startServices, h.openStores,
		func(ctx context.Context) error { return h.startPrograms(ctx, ownWriter) },
		h.settleIn,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// onClose notes what ends something that was started.
func (h *house) onClose(f func() error) { h.closers = append(h.closers, f) }

// close ends everything that open has started.
func (h *house) close() error {
	var errs []error
	for _, f := range slices.Backward(h.closers) {
		errs = append(errs, f())
	}
	h.closers = nil
	return errors.Join(errs...)
}

func (h *house) startServices(ctx context.Context) (err error) {
	if h.services, err = startServices(ctx, h.options.Script); err != nil {
		return err
	}
	h.onClose(func() error { return h.services.down(ctx) })
	for _, p := range []struct {
		to  **proxy
		uri string
	}{{&h.broker, h.services.amqp}, {&h.database, h.services.mongo}} {
		u, err := url.Parse(p.uri)
		if err != nil {
			return fmt.Errorf("the address of a service: %w", err)
		}
		if *p.to, err = newProxy(u.Host); err != nil {
			return err
		}
		h.onClose(func() error { (*p.to).close(); return nil })
	}
	return nil
}

// throughProxies is where programs find the services.
func (h *house) throughProxies() (backend.Where, error) {
	w := backend.Where{Prefix: h.prefix, ReadOnly: true}
	for _, s := range []struct {
		to  *string
		uri string
		by  *proxy
	}{{&w.AMQP, h.services.amqp, h.broker}, {&w.Mongo, h.services.mongo, h.database}} {
		u, err := url.Parse(s.uri)
		if err != nil {
			return w, fmt.Errorf("the address of a service: %w", err)
		}
		u.Host = s.by.address()
		*s.to = u.String()
	}
	return w, nil
}

// openStores makes the databases and opens them, past the proxies and through.
func (h *house) openStores(ctx context.Context) (err error) {
	quiet := slog.New(slog.DiscardHandler)
	if h.direct, err = backend.Open(ctx, backend.Where{Mongo: h.services.mongo, AMQP: h.services.amqp, Prefix: h.prefix}, quiet); err != nil {
		return err
	}
	h.onClose(h.direct.Close)
	dbs, client, err := backend.Connect(ctx, backend.Where{Mongo: h.services.mongo, Prefix: h.prefix})
	if err != nil {
		return err
	}
	h.onClose(func() error { return client.Disconnect(context.WithoutCancel(ctx)) })
	h.logs = []*mongolog.Store{
		mongolog.Open(dbs.Log, events.UserLog, events.UserPartitions),
		mongolog.Open(dbs.Log, events.ActivityLog, events.ActivityPartitions),
		mongolog.Open(dbs.Log, events.FraudLog, events.FraudPartitions),
	}
	where, err := h.throughProxies()
	if err != nil {
		return err
	}
	if h.through, err = backend.Open(ctx, where, quiet); err != nil {
		return err
	}
	h.onClose(h.through.Close)
	return nil
}

// startPrograms starts every instance of every service.
func (h *house) startPrograms(ctx context.Context, ownWriter bool) error {
	where, err := h.throughProxies()
	if err != nil {
		return err
	}
	environment := []string{
		"MEET5_MONGO=" + where.Mongo, "MEET5_AMQP=" + where.AMQP, "MEET5_PREFIX=" + h.prefix,
		"MEET5_RATE_LIMITS=off", "MEET5_LOG_LEVEL=warn",
	}
	for _, v := range os.Environ() { // what a person has set for another meet5 is not for this one
		if !strings.HasPrefix(v, "MEET5_") {
			environment = append(environment, v)
		}
	}
	ports, err := freePorts(ctx, len(serviceNames())*instances)
	if err != nil {
		return err
	}
	for _, name := range serviceNames() {
		for range instances {
			h.addresses[name] = append(h.addresses[name], "127.0.0.1:"+strconv.Itoa(ports[0]))
			ports = ports[1:]
		}
	}
	if ownWriter {
		if h.writer, err = newWriter(); err != nil {
			return err
		}
		h.onClose(h.writer.close)
		if err := h.writer.serve(h.through, h.urls(userService)); err != nil {
			return err
		}
	}
	for _, name := range serviceNames() {
		urls := h.urls(name)
		if name == activityService && h.writer != nil {
			urls = append(urls, h.writer.url())
		}
		environment = append(environment, "MEET5_"+strings.ToUpper(name)+"_URL="+strings.Join(urls, ","))
	}
	for _, name := range serviceNames() {
		for i, address := range h.addresses[name] {
			p := &process{
				name: name + " " + strconv.Itoa(i), path: filepath.Join(h.options.Bin, name),
				env: append(slices.Clone(environment), "MEET5_LISTEN="+address),
			}
			h.programs[name] = append(h.programs[name], p)
			h.onClose(func() error { p.kill(); return nil })
			if err := p.start(); err != nil {
				return err
			}
		}
	}
	if err := h.ready(ctx, serviceNames()...); err != nil {
		return fmt.Errorf("wait for the house to be ready: %w", err)
	}
	return nil
}

// freePorts finds ports that nobody listens on.
func freePorts(ctx context.Context, n int) (ports []int, err error) {
	var config net.ListenConfig
	for _, offset := range rand.Perm(lastPort - firstPort + 1) { //nolint:gosec // only to be out of others' way
		l, err := config.Listen(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(firstPort+offset))
		if err != nil {
			continue
		}
		_ = l.Close()
		if ports = append(ports, firstPort+offset); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("fewer than %d ports from %d to %d are free", n, firstPort, lastPort)
}

// urls are where a service's processes are found.
func (h *house) urls(service string) []string {
	urls := make([]string, len(h.addresses[service]))
	for i, a := range h.addresses[service] {
		urls[i] = "http://" + a
	}
	return urls
}

// all are all processes.
func (h *house) all() (out []*process) {
	for _, name := range serviceNames() {
		out = append(out, h.programs[name]...)
	}
	return out
}

// ready returns once every process of these services says that it is ready, which
// they say when what follows a log has caught up with it.
func (h *house) ready(ctx context.Context, services ...string) error {
	for _, name := range services {
		for i, u := range h.urls(name) {
			if err := again(ctx, readyPause, func() error {
				if err := h.programs[name][i].failure(); err != nil {
					return err
				}
				return isReady(ctx, u)
			}); err != nil {
				return fmt.Errorf("%s %d: %w", name, i, err)
			}
		}
	}
	return nil
}

func isReady(ctx context.Context, base string) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", res.Status)
	}
	return nil
}

// settleIn makes the accounts and begins to take the history down.
func (h *house) settleIn(ctx context.Context) (err error) {
	transport := &http.Transport{MaxIdleConnsPerHost: 2 * members, IdleConnTimeout: time.Minute}
	h.doors = &doors{urls: h.urls(gatewayService), client: &http.Client{Transport: transport}, tally: &tally{}}
	h.onClose(func() error {
		transport.CloseIdleConnections()
		http.DefaultClient.CloseIdleConnections()
		return nil
	})
	h.recorder.Exclusive(events.ActivityLog, events.ProfileVisited, events.ProfileLiked, events.LikeWithdrawn)
	if h.witness, err = newWitness(h.through, h.recorder); err != nil {
		return err
	}
	h.onClose(func() error { h.witness.close(); return nil })
	for i := range members {
		m, err := h.account(ctx, "member"+strconv.Itoa(i), i)
		if err != nil {
			return err
		}
		h.members = append(h.members, m)
	}
	racer, err := h.account(ctx, "racer", 0)
	if err != nil {
		return err
	}
	other := &account{doors: h.doors, login: racer.login, secret: racer.secret, id: racer.id, gateway: 1}
	h.profile = &profile{house: h, devices: [2]*account{racer, other}, texts: make(map[uint64]map[string]outcome), seen: make(map[uint64]string)}
	for i := range h.probes {
		p := &prober{house: h}
		for to, handle := range map[**account]string{&p.visitor: "prober", &p.visited: "probed"} {
			if *to, err = h.account(ctx, handle+strconv.Itoa(i), i); err != nil {
				return err
			}
		}
		h.probes[i] = p
	}
	return nil
}

// account registers somebody and signs them in.
func (h *house) account(ctx context.Context, handle string, gateway int) (*account, error) {
	a := &account{doors: h.doors, login: handle, secret: password, gateway: gateway}
	body, err := registration(handle, handle+"@example.org", password)
	if err != nil {
		return nil, err
	}
	for _, step := range []func() error{
		func() error {
			got, err := a.doors.ask(ctx, gateway, request{method: http.MethodPost, path: "/v1/users", contentType: jsonType, body: body})
			if err == nil && got.status != http.StatusCreated && got.status != http.StatusConflict { // an earlier try of ours
				err = errors.New(got.String())
			}
			return err
		},
		func() error {
			in, err := a.signIn(ctx)
			if err == nil && !in {
				err = errors.New("the password is refused")
			}
			return err
		},
		func() error {
			got, err := a.ask(ctx, request{method: http.MethodGet, path: "/v1/me"})
			if err == nil && got.status != http.StatusOK {
				err = errors.New(got.String())
			}
			if err == nil {
				a.id, err = accountID(got)
			}
			return err
		},
	} {
		if err := again(ctx, settlePause, step); err != nil {
			return nil, fmt.Errorf("make the account %s: %w", handle, err)
		}
	}
	return a, nil
}

// anybodyBut chooses a member at random.
func (h *house) anybodyBut(m *account, random *rand.Rand) *account {
	for {
		if other := h.members[random.IntN(len(h.members))]; other != m {
			return other
		}
	}
}

// patience is how long to wait for what should come by itself. Once something has
// not come, the rest is not waited for as long.
func (h *house) patience() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.ContainsFunc(h.violations, func(v history.Violation) bool { return v.Rule == Stuck }) {
		return h.options.Patience / lostPatience
	}
	return h.options.Patience
}

// found notes a violation that only who was there could see.
func (h *house) found(v history.Violation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.violations = append(h.violations, v)
}

// tails is what the programs have said last.
func (h *house) tails() string {
	var b strings.Builder
	say := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "--- %s\n%s", name, text)
		}
	}
	for _, p := range h.all() {
		say(p.name, p.said.String())
	}
	if h.writer != nil {
		say("activity with a clock of its own", h.writer.said.String())
	}
	return b.String()
}
