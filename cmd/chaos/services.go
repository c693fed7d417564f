package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ErrNoServices says that real services cannot be had on this machine.
var ErrNoServices = errors.New("real services cannot be had here")

const (
	// noServices is the script's exit code where services cannot be had.
	noServices = 3
	// scriptPatience bounds one call of the script after the end of the context:
	// what it has begun it tidies up.
	scriptPatience = time.Minute
)

// services are a broker and a database of our own, to be ill-treated. The script
// knows how they are started, ended, and made to stand still.
type services struct {
	script, run string
	mongo, amqp string
}

// startServices starts both. ErrNoServices says that there is no way to.
func startServices(ctx context.Context, script string) (*services, error) {
	script, err := filepath.Abs(script)
	if err != nil {
		return nil, err
	}
	out, err := call(ctx, script, nil, "up", "--private")
	if err != nil {
		return nil, err
	}
	s := &services{script: script}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		value = strings.ReplaceAll(value, `\`, "") // it is quoted for a shell
		switch name {
		case "MEET5_TEST_RUN":
			s.run = value
		case "MONGODB_URI":
			s.mongo = value
		case "AMQP_URL":
			s.amqp = value
		}
	}
	if s.run == "" || s.mongo == "" || s.amqp == "" {
		return nil, fmt.Errorf("%s up --private: it printed %q, which names no run, database and broker", script, out)
	}
	return s, nil
}

// down ends both services, even if ctx has ended.
func (s *services) down(ctx context.Context) error {
	_, err := s.do(context.WithoutCancel(ctx), "down")
	return err
}

// do asks the script for something.
func (s *services) do(ctx context.Context, args ...string) (string, error) {
	return call(ctx, s.script, append(os.Environ(), "MEET5_TEST_RUN="+s.run), args...)
}

func call(ctx context.Context, script string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, script, args...)
	var stderr, stdout bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &stdout, &stderr
	cmd.Cancel = func() error { return askToEnd(cmd.Process) }
	cmd.WaitDelay = scriptPatience
	err := cmd.Run()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok && failed.ExitCode() == noServices {
		return "", fmt.Errorf("%w:\n%s", ErrNoServices, stderr.Bytes())
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", script, strings.Join(args, " "), err, stderr.Bytes())
	}
	return stdout.String(), nil
}
