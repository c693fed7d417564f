//go:build !unix

package chaos

import (
	"errors"
	"os"
)

var errNoSignals = errors.New("a program cannot be made to stand still on this system")

func standStill(*os.Process) error { return errNoSignals }

func goOn(*os.Process) error { return errNoSignals }

func askToEnd(p *os.Process) error { return p.Kill() }
