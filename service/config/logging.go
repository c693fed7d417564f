package config

import (
	"io"
	"log/slog"
)

// Logging is the flags of a program's log. Its zero value logs as text, from
// level info on.
type Logging struct {
	LogFormat string     `help:"Format of the log: text or json." enum:"text,json" default:"text" env:"MEET5_LOG_FORMAT"`
	LogLevel  slog.Level `help:"Least level that is logged: debug, info, warn or error." default:"info" env:"MEET5_LOG_LEVEL"`
}

// Logger makes a logger that writes to w, which is standard error in a program,
// and names the service in each record.
func (l Logging) Logger(w io.Writer, service string) *slog.Logger {
	options := &slog.HandlerOptions{Level: l.LogLevel}
	var handler slog.Handler = slog.NewTextHandler(w, options)
	if l.LogFormat == "json" {
		handler = slog.NewJSONHandler(w, options)
	}
	return slog.New(handler).With("service", service)
}
