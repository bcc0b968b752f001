package embedded

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"sync"
)

// engineLog turns what the engine prints into log records, and keeps the end
// of it for errors.
type engineLog struct {
	logger *slog.Logger

	mu    sync.Mutex
	lines []string // the last few, oldest first
}

const (
	keptLines  = 8
	maxLogLine = 2000 // bytes of a line that are kept
)

func newEngineLog(logger *slog.Logger) *engineLog { return &engineLog{logger: logger} }

// read logs lines until the stream ends. A line of any length is one record,
// clipped.
func (l *engineLog) read(r io.Reader) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	for {
		line, more, err := buffered.ReadLine()
		text := clip(string(line))
		for more && err == nil {
			_, more, err = buffered.ReadLine()
		}
		if strings.TrimSpace(text) != "" {
			l.add(text)
		}
		if err != nil {
			return
		}
	}
}

func clip(s string) string {
	if len(s) > maxLogLine {
		return s[:maxLogLine] + "…"
	}
	return s
}

func (l *engineLog) add(line string) {
	level, component, message := parseEngineLine(line)
	if component == "" {
		l.logger.Log(context.Background(), level, message)
	} else {
		l.logger.Log(context.Background(), level, message, "component", component)
	}
	if level < slog.LevelWarn {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, message)
	if len(l.lines) > keptLines {
		l.lines = l.lines[1:]
	}
}

// last is the end of what was worth a warning.
func (l *engineLog) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "; ")
}

// date time [ thread ] {query id} <Level> component: message
var engineLine = regexp.MustCompile(`^\d{4}\.\d\d\.\d\d \d\d:\d\d:\d\d\.\d+ \[ \d+ \] \{[^}]*\} <(\w+)> ([^:]*): (.*)$`)

// details are the components whose warnings tell nothing that has to be acted
// on. Most log what a client got as its answer; the client is part of qunfa or
// a person, and both say or see it themselves. The pool says that it is busy.
var details = regexp.MustCompile(`^(executeQuery|TCPHandler|DynamicQueryHandler|HTTPHandler|ServerErrorHandler|Access\(.*|BackgroundSchedulePool/.*)$`)

// parseEngineLine takes a line of ClickHouse's log apart. Lines without its
// head belong to a record that spans lines, mostly a stack, and are details.
func parseEngineLine(line string) (level slog.Level, component, message string) {
	m := engineLine.FindStringSubmatch(line)
	if m == nil {
		if strings.HasPrefix(line, "localengine: ") || strings.HasPrefix(line, "Code: ") {
			return slog.LevelWarn, "", line
		}
		return slog.LevelDebug, "", line
	}
	component, message = m[2], m[3]
	switch m[1] {
	case "Fatal", "Critical", "Error":
		level = slog.LevelError
	case "Warning":
		level = slog.LevelWarn
	default:
		level = slog.LevelDebug
	}
	if details.MatchString(component) || strings.Contains(message, "(in query: ") {
		level = slog.LevelDebug
	}
	return level, component, message
}
