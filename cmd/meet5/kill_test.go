package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
)

const (
	adminEmail = "root@example.org"
	password   = "correct horse battery"
)

// program is a meet5 that runs as a process of its own.
type program struct {
	t    *testing.T
	cmd  *exec.Cmd
	url  string
	gone chan struct{}
}

// build compiles the program once.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "meet5-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "meet5")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput() //nolint:gosec // our own program
	if err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := build(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, gone: make(chan struct{})}
	p.cmd = exec.Command(path, append([]string{"up", "--listen", "127.0.0.1:0"}, args...)...) //nolint:gosec // our own program
	p.cmd.Env = append(os.Environ(), "MEET5_RATE_LIMITS=off", "MEET5_ADMIN_EMAIL="+adminEmail, "MEET5_ADMIN_PASSWORD="+password)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url := make(chan string, 1)
	var printed bytes.Buffer
	go func() {
		defer close(p.gone)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if at, ok := strings.CutPrefix(lines.Text(), "serving on "); ok {
				url <- strings.Fields(at)[0]
			} else {
				fmt.Fprintln(&printed, lines.Text())
			}
		}
		_ = p.cmd.Wait() // it is killed
	}()
	t.Cleanup(p.kill)
	select {
	case p.url = <-url:
	case <-p.gone:
		t.Fatalf("it ended before it served: %s", printed.String())
	case <-t.Context().Done():
		t.Fatal("it does not serve")
	}
	return p
}

// kill ends the process as a power cut would.
func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	<-p.gone
}

// send makes one request. The status is 0 if there was no answer.
func (p *program) send(method, path, token string, body any) (int, []byte) {
	var reader io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			p.t.Error(err)
		}
		reader = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(context.Background(), method, p.url+path, reader)
	if err != nil {
		p.t.Error(err)
		return 0, nil
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, nil
	}
	return res.StatusCode, answer
}

func (p *program) signIn(login string) string {
	p.t.Helper()
	var s struct {
		AccessToken string `json:"access_token"`
	}
	status, answer := p.send(http.MethodPost, "/v1/sessions", "", map[string]string{"login": login, "password": password})
	if err := json.Unmarshal(answer, &s); status != http.StatusCreated || err != nil {
		p.t.Fatalf("sign in as %s: %d %s", login, status, answer)
	}
	return s.AccessToken
}

func (p *program) register(handle string) (id string) {
	p.t.Helper()
	var u struct {
		ID string `json:"id"`
	}
	status, answer := p.send(http.MethodPost, "/v1/users", "", map[string]string{
		"handle": handle, "email": handle + "@example.org", "password": password, "display_name": handle, "birth_date": "1990-01-31",
	})
	if err := json.Unmarshal(answer, &u); status != http.StatusCreated || err != nil {
		p.t.Fatalf("register %s: %d %s", handle, status, answer)
	}
	return u.ID
}

// TestWhatWasAcknowledgedSurvivesKill kills the one process under load, ten
// times: every activity that got 201 is there once, in order.
func TestWhatWasAcknowledgedSurvivesKill(t *testing.T) {
	const rounds, clients = 10, 8
	data := t.TempDir()
	p := start(t, "--data", data)
	var ids []string
	for i := range clients {
		ids = append(ids, p.register(fmt.Sprintf("client%d", i)))
	}
	type acked struct {
		id        string
		partition int
		sequence  uint64
	}
	said := make([][]acked, clients) // by client, in the order of the answers
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for round := range rounds {
		tokens := make([]string, clients)
		for i := range clients {
			tokens[i] = p.signIn(fmt.Sprintf("client%d", i))
		}
		var total atomic.Int64
		enough := int64(50 + random.IntN(500))
		reached := make(chan struct{})
		var once sync.Once
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() {
				for n := 0; ; n++ {
					id := uuid.NewString()
					status, answer := p.send(http.MethodPost, "/v1/activities", tokens[i], map[string]string{
						"id": id, "type": "visit", "target": ids[(i+1+n%(clients-1))%clients],
					})
					if status == 0 {
						return // it is dead; whether this one was written is open
					}
					var a struct {
						ID        string `json:"id"`
						Partition int    `json:"partition"`
						Sequence  uint64 `json:"sequence"`
					}
					if err := json.Unmarshal(answer, &a); status != http.StatusCreated || err != nil || a.ID != id {
						t.Errorf("round %d: %d %s", round, status, answer)
						once.Do(func() { close(reached) })
						return
					}
					said[i] = append(said[i], acked{id, a.Partition, a.Sequence})
					if total.Add(1) >= enough {
						once.Do(func() { close(reached) })
					}
				}
			})
		}
		<-reached
		p.kill()
		wg.Wait()
		p = start(t, "--data", data)
	}

	admin := p.signIn(adminEmail)
	status, stream := p.send(http.MethodGet, "/v1/logs/activity/events?type=activity.profile_visited.v1", admin, nil)
	if status != http.StatusOK {
		t.Fatalf("read the log: %d %s", status, stream)
	}
	type place struct {
		partition int
		sequence  uint64
	}
	found := map[string]place{}
	for line := range bytes.Lines(stream) {
		var e struct {
			ID        string `json:"id"`
			Partition int    `json:"partition"`
			Sequence  uint64 `json:"sequence"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if before, twice := found[e.ID]; twice {
			t.Errorf("event %s is at %v and at %d/%d", e.ID, before, e.Partition, e.Sequence)
		}
		found[e.ID] = place{e.Partition, e.Sequence}
	}
	count := 0
	for i := range said {
		last := uint64(0)
		for _, a := range said[i] {
			if got, ok := found[a.id]; !ok || got != (place{a.partition, a.sequence}) {
				t.Errorf("event %s got 201 at %d/%d and is at %v (%v)", a.id, a.partition, a.sequence, got, ok)
			}
			if a.sequence <= last {
				t.Errorf("client %d: sequence %d was answered after %d", i, a.sequence, last)
			}
			last = a.sequence
			count++
		}
	}
	t.Logf("%d activities got 201 over %d kills; %d are in the log", count, rounds, len(found))
	if count < rounds*50 {
		t.Errorf("only %d activities were acknowledged", count)
	}
}
