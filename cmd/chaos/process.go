package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
)

// process is one program of the house, which may be ended and started again.
type process struct {
	name string // such as "activity 1"
	path string
	env  []string
	said tail

	mu     sync.Mutex
	cmd    *exec.Cmd     // nil unless it runs
	gone   chan struct{} // closed once it has ended
	wanted bool          // it is to run
	failed error         // it ended by itself
}

// start starts the program, unless it runs.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return nil
	}
	cmd := exec.Command(p.path) //nolint:gosec // our own program
	cmd.Env, cmd.Stderr = p.env, &p.said
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	gone := make(chan struct{})
	p.cmd, p.gone, p.wanted = cmd, gone, true
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.wanted {
			p.failed = fmt.Errorf("%s ended by itself: %w", p.name, errors.Join(err, errEnded))
		}
		p.cmd = nil
		close(gone)
	}()
	return nil
}

var errEnded = errors.New("nobody had told it to")

// kill ends the program at once, wherever it is, and returns when it is gone.
func (p *process) kill() {
	p.mu.Lock()
	p.wanted = false
	gone := p.gone
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
	}
	p.mu.Unlock()
	if gone != nil {
		<-gone
	}
}

// stop makes the program stand still, and resume go on.
func (p *process) stop() error   { return p.signal(standStill) }
func (p *process) resume() error { return p.signal(goOn) }

func (p *process) signal(send func(*os.Process) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("%s does not run", p.name)
	}
	return send(p.cmd.Process)
}

// failure says why the program ended by itself; nil if it did not.
func (p *process) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// memory is the program's resident memory in bytes, 0 if it cannot be told.
func (p *process) memory() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}

// tailBytes is how much of what a program has said last is kept.
const tailBytes = 3 << 10

// tail keeps the last that was written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - tailBytes; over > tailBytes {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}

// String is the last whole lines.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.text) <= tailBytes {
		return string(t.text)
	}
	_, rest, _ := strings.Cut(string(t.text[len(t.text)-tailBytes:]), "\n")
	return rest
}
