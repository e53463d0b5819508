package main

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// lastWarning keeps the text of the last warning that the store logged: why it
// waited, for a command that waits no longer.
type lastWarning struct{ text string }

func (w *lastWarning) logger() *zap.Logger {
	return zap.New(zapcore.NewNopCore(), zap.WrapCore(func(zapcore.Core) zapcore.Core { return warningCore{zapcore.WarnLevel, w} }))
}

// warningCore is a log that only remembers.
type warningCore struct {
	zapcore.LevelEnabler
	last *lastWarning
}

func (c warningCore) With([]zapcore.Field) zapcore.Core { return c }

func (c warningCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c warningCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.last.text = e.Message
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok {
			c.last.text = err.Error()
		}
	}
	return nil
}

func (c warningCore) Sync() error { return nil }
