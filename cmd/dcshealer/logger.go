package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// logFlags are the flags of the commands that log.
type logFlags struct{ format, level string }

// newLogger logs to stderr: coloured on a terminal, plain text in a pipe, JSON where asked for.
func (f logFlags) newLogger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(strings.ToUpper(f.level))); err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", f.level)
	}
	opt := &slog.HandlerOptions{Level: level, ReplaceAttr: durationsAsText}
	switch f.format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, opt)), nil
	case "text", "":
		if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
			return slog.New(tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: time.TimeOnly})), nil
		}
		return slog.New(slog.NewTextHandler(w, opt)), nil
	}
	return nil, fmt.Errorf("--log-format %q: want text or json", f.format)
}

// durationsAsText keeps JSON from writing a duration as a bare number of nanoseconds.
func durationsAsText(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.String(a.Key, a.Value.Duration().String())
	}
	return a
}
