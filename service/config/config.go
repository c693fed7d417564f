// Package config reads a program's configuration: one struct of flags, each with
// its environment variable.
//
// Its promises:
//   - a flag beats its variable, a variable its default;
//   - what makes no sense is a [run.UsageError] that says which flag, and nothing
//     has been started yet;
//   - it never prints a value: a flag may be a password.
package config

import (
	"errors"
	"fmt"
	"io"

	"github.com/alecthomas/kong"

	"github.com/meet5/backend/service/run"
)

// Parse fills flags, a pointer to a struct with kong's tags, from args (without
// the program's name) and the environment:
//
//	type flags struct {
//		Listen string `help:"Address to serve on." default:":8080" env:"MEET5_LISTEN"`
//		config.Logging
//	}
//
// A Validate() error method on flags, or on any struct in it, is called at the
// end. --help prints to out and returns [run.ErrDone].
func Parse(flags any, name, about string, args []string, out io.Writer) error {
	helped := false
	parser, err := kong.New(flags,
		kong.Name(name),
		kong.Description(about),
		kong.Writers(out, out),
		kong.Exit(func(int) { helped = true }),
	)
	if err != nil {
		return fmt.Errorf("flags of %s: %w", name, err)
	}
	_, err = parser.Parse(args)
	if helped {
		return run.ErrDone
	}
	if err != nil {
		return &run.UsageError{Err: fmt.Errorf("%w (see %s --help)", err, name)}
	}
	return nil
}

// Required is for Validate methods: what is missing, and both ways to give it.
func Required(flag, variable string) error {
	return errors.New("--" + flag + " or " + variable + " is needed")
}
