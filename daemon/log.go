package main

import (
	"errors"
	"fmt"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logger writes to standard error. Under systemd it leaves out the time, which
// the journal adds.
func logger(level, format string) (*zap.Logger, error) {
	var faults []error
	at, err := zapcore.ParseLevel(level)
	if err != nil || at > zapcore.ErrorLevel {
		faults = append(faults, fmt.Errorf("--log-level: %q is not debug, info, warn or error", level))
	}
	c := zap.NewProductionEncoderConfig()
	c.EncodeTime = zapcore.ISO8601TimeEncoder
	c.EncodeDuration = zapcore.StringDurationEncoder
	c.EncodeLevel = zapcore.CapitalLevelEncoder
	if os.Getenv("JOURNAL_STREAM") != "" {
		c.TimeKey = zapcore.OmitKey
	}
	var encoder zapcore.Encoder
	switch format {
	case "text":
		c.ConsoleSeparator = " "
		encoder = zapcore.NewConsoleEncoder(c)
	case "json":
		c.EncodeLevel = zapcore.LowercaseLevelEncoder
		encoder = zapcore.NewJSONEncoder(c)
	default:
		faults = append(faults, fmt.Errorf("--log-format: %q is not text or json", format))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), at)), nil
}
