package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/history"
)

const (
	// answerWithin is how long a client waits for an answer.
	answerWithin = 6 * time.Second
	// maxAnswer bounds an answer, in bytes.
	maxAnswer = 16 << 20
	// password of every account.
	password = "correct horse battery"
	// tokenGood is for how long a client uses a token before it signs in again.
	tokenGood = 5 * time.Minute
)

// jsonType is the content type of what clients send, except where they say another.
const jsonType = "application/json"

// doors are the gateways, as clients see them.
type doors struct {
	urls   []string
	client *http.Client
	tally  *tally
}

// tally counts, for one run, what clients asked and were told, and keeps the
// answers that nobody should get.
type tally struct {
	requests, acknowledged, refused, unknown atomic.Int64

	mu  sync.Mutex
	bad map[string]*badAnswer
}

type badAnswer struct {
	evidence string
	times    int
}

// wrong notes an answer that no promise allows.
func (t *tally) wrong(what, evidence string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bad == nil {
		t.bad = make(map[string]*badAnswer)
	}
	if t.bad[what] == nil {
		t.bad[what] = &badAnswer{evidence: evidence}
	}
	t.bad[what].times++
}

// violations lists them.
func (t *tally) violations() (out []history.Violation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for what, b := range t.bad {
		out = append(out, history.Violation{
			Rule: Answered, Log: "gateway", Partition: history.NoPartition, Message: what, Evidence: []string{b.evidence}, More: b.times - 1,
		})
	}
	return out
}

// request is what a client asks.
type request struct {
	method, path, contentType, token, ifMatch string
	body                                      []byte
}

// answer is what it is told. Without an error the status is there.
type answer struct {
	status int
	etag   string
	body   []byte
}

// ask asks one gateway. The error is of an answer that did not come.
func (d *doors) ask(ctx context.Context, gateway int, r request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, d.urls[gateway%len(d.urls)]+r.path, bytes.NewReader(r.body))
	if err != nil {
		return answer{}, err
	}
	for name, value := range map[string]string{"Content-Type": r.contentType, "If-Match": r.ifMatch} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	d.tally.requests.Add(1)
	res, err := d.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return answer{}, err
	}
	a := answer{res.StatusCode, res.Header.Get("ETag"), body}
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); a.status == http.StatusServiceUnavailable && (err != nil || seconds < 1) {
		d.tally.wrong("503 without Retry-After to "+r.method+" "+r.path, a.String())
	}
	return a, nil
}

func (a answer) String() string {
	const shown = 500
	return fmt.Sprintf("%d: %s", a.status, a.body[:min(len(a.body), shown)])
}

// account is somebody who can sign in.
type account struct {
	doors         *doors
	login, secret string
	id            uuid.UUID

	mu      sync.Mutex
	gateway int
	token   string
	since   time.Time
}

// ask asks on the account's behalf. After no answer it turns to the other gateway.
func (a *account) ask(ctx context.Context, r request) (answer, error) {
	a.mu.Lock()
	gateway, token, since := a.gateway, a.token, a.since
	a.mu.Unlock()
	if time.Since(since) > tokenGood {
		if _, err := a.signIn(ctx); err != nil {
			return answer{}, err
		}
		a.mu.Lock()
		token = a.token
		a.mu.Unlock()
	}
	r.token = token
	got, err := a.doors.ask(ctx, gateway, r)
	if err != nil {
		a.turn(gateway)
	}
	return got, err
}

func (a *account) turn(from int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gateway == from {
		a.gateway++
	}
}

// signIn gets a token. The error is of no clear answer; a wrong login or password
// is false.
func (a *account) signIn(ctx context.Context) (bool, error) {
	body, err := json.Marshal(map[string]string{"login": a.login, "password": a.secret})
	if err != nil {
		return false, err
	}
	a.mu.Lock()
	gateway := a.gateway
	a.mu.Unlock()
	got, err := a.doors.ask(ctx, gateway, request{method: http.MethodPost, path: "/v1/sessions", contentType: jsonType, body: body})
	if err != nil {
		a.turn(gateway)
		return false, err
	}
	switch got.status {
	case http.StatusCreated:
	case http.StatusUnauthorized:
		return false, nil
	default:
		return false, fmt.Errorf("sign in as %s: %v", a.login, got)
	}
	var s struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(got.body, &s); err != nil {
		return false, fmt.Errorf("sign in as %s: %w", a.login, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.token, a.since = s.AccessToken, time.Now()
	return true, nil
}

// registration is the body of POST /v1/users.
func registration(handle, email, secret string) ([]byte, error) {
	return json.Marshal(map[string]string{
		"handle": handle, "email": email, "password": secret, "display_name": "Member " + handle, "birth_date": "1990-01-31",
	})
}

// again calls do until it succeeds, with a pause in between, or ctx ends: then the
// error is do's last one.
func again(ctx context.Context, pause time.Duration, do func() error) error {
	t := time.NewTicker(pause)
	defer t.Stop()
	for {
		err := do()
		if err == nil {
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return err
		}
	}
}

// accountID reads the ID of an account.
func accountID(a answer) (uuid.UUID, error) {
	var made struct{ ID uuid.UUID }
	if err := json.Unmarshal(a.body, &made); err != nil {
		return uuid.Nil, err
	}
	return made.ID, nil
}
