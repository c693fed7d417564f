//go:build unix

package chaos

import (
	"os"
	"syscall"
)

func standStill(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }

func goOn(p *os.Process) error { return p.Signal(syscall.SIGCONT) }

func askToEnd(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
