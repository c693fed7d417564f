package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/meet5/backend/service/config"
	"github.com/meet5/backend/service/run"
)

type flags struct {
	Listen  string `help:"Address to serve on." default:":8080" env:"MEET5_LISTEN"`
	Workers int    `help:"How many work at once." default:"4" env:"MEET5_WORKERS"`
	Secret  string `help:"The admin's password." env:"MEET5_SECRET"`
	config.Logging
}

func (f flags) Validate() error {
	if f.Workers == 0 {
		return config.Required("workers", "MEET5_WORKERS")
	}
	return nil
}

func parse(args ...string) (flags, string, error) {
	var f flags
	var out bytes.Buffer
	err := config.Parse(&f, "activity", "Accepts visits and likes.", args, &out)
	return f, out.String(), err
}

func TestAFlagBeatsItsVariableAndThatItsDefault(t *testing.T) {
	if f, _, err := parse(); err != nil || f.Listen != ":8080" || f.LogLevel != slog.LevelInfo {
		t.Errorf("defaults: %+v, %v", f, err)
	}
	t.Setenv("MEET5_LISTEN", ":1")
	t.Setenv("MEET5_LOG_LEVEL", "debug")
	if f, _, err := parse(); err != nil || f.Listen != ":1" || f.LogLevel != slog.LevelDebug {
		t.Errorf("variables: %+v, %v", f, err)
	}
	if f, _, err := parse("--listen", ":2", "--log-level=warn"); err != nil || f.Listen != ":2" || f.LogLevel != slog.LevelWarn {
		t.Errorf("flags: %+v, %v", f, err)
	}
}

func TestWrongUsageSaysWhichFlag(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"an unknown flag":        {[]string{"--lisen=x"}, "--lisen"},
		"a value of wrong type":  {[]string{"--workers=many"}, "--workers"},
		"a value out of its set": {[]string{"--log-format=xml"}, "--log-format"},
		"a bad level":            {[]string{"--log-level=loud"}, "--log-level"},
		"an argument":            {[]string{"x"}, "x"},
		"what Validate refuses":  {[]string{"--workers=0"}, "--workers or MEET5_WORKERS is needed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, out, err := parse(test.args...)
			if _, ok := errors.AsType[*run.UsageError](err); !ok || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v", err)
			}
			if out != "" {
				t.Errorf("printed %q", out)
			}
		})
	}
}

func TestHelpIsPrintedAndNothingElseIsDone(t *testing.T) {
	t.Setenv("MEET5_SECRET", "hunter2")
	_, out, err := parse("--help", "--workers=0")
	if !errors.Is(err, run.ErrDone) {
		t.Errorf("got %v", err)
	}
	for _, part := range []string{"Accepts visits and likes.", "--listen", "$MEET5_LISTEN"} {
		if !strings.Contains(out, part) {
			t.Errorf("%q is not in the help:\n%s", part, out)
		}
	}
	if strings.Contains(out, "hunter2") {
		t.Errorf("the help shows a secret:\n%s", out)
	}
}

func TestALoggerNamesItsServiceAndKeepsItsLevel(t *testing.T) {
	var out bytes.Buffer
	log := config.Logging{LogFormat: "json", LogLevel: slog.LevelWarn}.Logger(&out, "activity")
	log.Info("dropped")
	log.Warn("kept")
	var record map[string]any
	if err := json.Unmarshal(out.Bytes(), &record); err != nil {
		t.Fatalf("%q: %v", out.String(), err)
	}
	if record["service"] != "activity" || record["msg"] != "kept" {
		t.Errorf("got %s", out.String())
	}
	out.Reset()
	config.Logging{}.Logger(&out, "activity").Info("said")
	if !strings.Contains(out.String(), `msg=said service=activity`) {
		t.Errorf("got %q", out.String())
	}
}
