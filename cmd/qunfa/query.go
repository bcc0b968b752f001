package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	driver "github.com/ClickHouse/clickhouse-go/v2"

	"qunfa/internal/clickhouse"
)

// queryCmd asks in SQL.
type queryCmd struct {
	SQL     string        `arg:"" optional:"" name:"sql" help:"The statement; - or nothing: from standard input."`
	File    string        `short:"f" help:"Read the statement from a file." placeholder:"FILE" type:"path"`
	Limit   int           `help:"Show at most so many rows; 0: all." default:"10000"`
	Timeout time.Duration `help:"Give up after so long." default:"1m"`
	Write   bool          `help:"Allow statements that change something, which are refused otherwise."`
	readerFlags
}

// Run implements the command.
func (c *queryCmd) Run(g *globals) error {
	sql, err := c.statement(g)
	if err != nil {
		return err
	}
	t, err := g.target()
	if err != nil {
		return err
	}
	db, err := c.open(t)
	if err != nil {
		return err
	}
	defer db.Close()
	r, err := c.ask(g.ctx, db, sql)
	if err != nil {
		return explainAccess(err)
	}
	more := c.Limit > 0 && len(r.Rows) > c.Limit
	if more {
		r.Rows = r.Rows[:c.Limit]
	}
	if err := g.printRows(r); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(g.Stderr, "only the first %d rows are shown: --limit 0 shows all\n", c.Limit)
	}
	return nil
}

func (c *queryCmd) open(t *target) (*clickhouse.DB, error) {
	if c.Write && c.User == "" {
		return t.database()
	}
	return c.reader(t)
}

// maxSQL bounds a statement that is read from a file or a pipe.
const maxSQL = 4 << 20

func (c *queryCmd) statement(g *globals) (string, error) {
	sql := c.SQL
	switch {
	case c.File != "" && sql != "":
		return "", usagef("give the statement or -f, not both")
	case c.File != "":
		b, err := readBounded(c.File, maxSQL)
		if err != nil {
			return "", &usageError{err}
		}
		sql = string(b)
	case sql == "" && isTerminalReader(g.Stdin):
		return "", usagef(`what is the question? For example: qunfa query "SELECT * FROM messages ORDER BY day DESC LIMIT 10"`)
	case sql == "" || sql == "-":
		b, err := readAllBounded(g.Stdin, maxSQL)
		if err != nil {
			return "", fmt.Errorf("standard input: %w", err)
		}
		sql = string(b)
	}
	sql = strings.TrimRight(strings.TrimSpace(sql), "; \t\r\n")
	if sql == "" {
		return "", usagef("the statement is empty")
	}
	return sql, nil
}

// notReadonly is ClickHouse's READONLY: the user may not even change settings.
const codeReadonly = 164

// ask runs the statement with limits. A server that lets the user set none has
// its own.
func (c *queryCmd) ask(ctx context.Context, db *clickhouse.DB, sql string) (*clickhouse.Result, error) {
	settings := driver.Settings{}
	if !c.Write {
		settings["readonly"] = 2
	}
	if c.Limit > 0 {
		settings["limit"] = c.Limit + 1 // one more shows that there is more
	}
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	r, err := db.Query(driver.Context(limited, driver.WithSettings(settings)), sql)
	var refused *clickhouse.Error
	if errors.As(err, &refused) && refused.Code == codeReadonly && strings.Contains(err.Error(), "setting") {
		return db.Query(ctx, sql)
	}
	// The connection's own deadline is the same, and may come first.
	if late := errors.Is(limited.Err(), context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded); err != nil && late {
		return nil, fmt.Errorf("no answer within %s (--timeout): %w", c.Timeout, err)
	}
	return r, err
}

func isTerminalReader(r io.Reader) bool { return isTerminal(r) }

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := readAllBounded(f, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

func readAllBounded(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("longer than %d bytes", limit)
	}
	return b, err
}
