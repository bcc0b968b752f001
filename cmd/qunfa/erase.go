package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"qunfa/internal/clickhouse"
)

// eraseCmd deletes the data of an account, and notes that they must not come back.
type eraseCmd struct {
	AppID   string `help:"The account." name:"appid" placeholder:"APPID" xor:"what"`
	RawOnly bool   `help:"Delete the openids in its callbacks alone (raw and from_user), and keep all figures."`
	Before  string `help:"Erase what happened or came before this time, such as 2026-11-25T00:00:00+08:00. Default: now." placeholder:"TIME"`
	List    bool   `help:"Show the erasure list. Keep it with your backups: an older one does not have all of it." xor:"what"`
	Again   string `help:"Put the entries of a list, as --list --format json prints it, on the erasure list, and erase all of them again: after a backup was restored." placeholder:"FILE" type:"path" xor:"what"`
	DryRun  bool   `help:"Count what would be deleted, and delete nothing."`
	Yes     bool   `help:"Do not ask."`

	ownerFlags
}

// Run implements the command.
func (c *eraseCmd) Run(g *globals) error {
	t, err := g.target()
	if err != nil {
		return err
	}
	return c.run(g, t)
}

func (c *eraseCmd) run(g *globals, t *target) error {
	as := c.as(t)
	db, err := as.database()
	if err != nil {
		return err
	}
	defer db.Close()
	if c.List {
		return explainOwner(as.cfg, c.list(g, db))
	}
	entries, err := c.entries()
	if err != nil {
		return &usageError{err}
	}
	return explainOwner(as.cfg, c.erase(g, db, entries))
}

// entries are what is to be erased.
func (c *eraseCmd) entries() ([]clickhouse.Erasure, error) {
	switch {
	case c.Again != "":
		return readErasures(c.Again)
	case c.AppID == "":
		return nil, errors.New("which account? Give --appid, or --list, or --again FILE")
	}
	e := clickhouse.Erasure{AppID: c.AppID, Scope: clickhouse.EraseAll, Before: time.Now(), Who: whoami("erase")}
	if c.RawOnly {
		e.Scope = clickhouse.EraseRaw
	}
	if c.Before != "" {
		at, err := time.Parse(time.RFC3339, c.Before)
		if err != nil {
			return nil, fmt.Errorf("--before %q: want a time such as 2026-11-25T00:00:00+08:00", c.Before)
		}
		if at.After(e.Before) {
			return nil, errors.New("--before lies in the future: what is to come cannot be erased")
		}
		e.Before = at
	}
	return []clickhouse.Erasure{e}, nil
}

// erasureJSON is an entry of the list as it is printed and read.
type erasureJSON struct {
	AppID  string    `json:"appid"`
	Scope  string    `json:"scope"`
	Before time.Time `json:"before"`
}

func readErasures(path string) ([]clickhouse.Erasure, error) {
	b, err := readBounded(path, maxSQL)
	if err != nil {
		return nil, err
	}
	var list []erasureJSON
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("%s: want what `qunfa erase --list --format json` prints: %w", path, err)
	}
	var entries []clickhouse.Erasure
	for _, e := range list {
		entries = append(entries, clickhouse.Erasure{AppID: e.AppID, Scope: e.Scope, Before: e.Before, Who: whoami("erase")})
	}
	return entries, nil
}

func (c *eraseCmd) list(g *globals, db *clickhouse.DB) error {
	entries, err := db.Erasures(g.ctx)
	if err != nil {
		return err
	}
	if g.format(formatJSON) == formatJSON {
		list := []erasureJSON{}
		for _, e := range entries {
			list = append(list, erasureJSON{e.AppID, e.Scope, e.Before})
		}
		return g.printJSON(list)
	}
	r := &clickhouse.Result{}
	for _, name := range []string{"appid", "scope", "before", "who", "at"} {
		r.Columns = append(r.Columns, clickhouse.Column{Name: name, Type: "String"})
	}
	for _, e := range entries {
		r.Rows = append(r.Rows, []any{e.AppID, e.Scope, e.Before.UTC().Format(time.RFC3339Nano), e.Who, e.At.UTC().Format(time.RFC3339)})
	}
	return g.printRows(r)
}

func (c *eraseCmd) erase(g *globals, db *clickhouse.DB, entries []clickhouse.Erasure) error {
	for _, e := range entries {
		counts, err := db.CountErasure(g.ctx, e)
		if err != nil {
			return err
		}
		fmt.Fprintln(g.Stdout, whatGoes(e, counts))
	}
	if c.DryRun {
		fmt.Fprintln(g.Stdout, "a dry run: nothing was deleted")
		return nil
	}
	if !c.Yes {
		if err := confirm(g, "This cannot be undone. Delete?"); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if err := db.Erase(g.ctx, e, func(step string) { fmt.Fprintf(g.Stderr, "%s: %s\n", printable(e.AppID), step) }); err != nil {
			return err
		}
		left, err := db.CountErasure(g.ctx, e)
		if err != nil {
			return err
		}
		if left.Events != 0 {
			return fmt.Errorf("%s: %d events are still there: run this again", e.AppID, left.Events)
		}
		fmt.Fprintf(g.Stdout, "%s: erased; the topics and backups still have it until they expire\n", printable(e.AppID))
	}
	return nil
}

func whatGoes(e clickhouse.Erasure, n clickhouse.EraseCounts) string {
	until := e.Before.UTC().Format(time.RFC3339)
	if e.Scope == clickhouse.EraseRaw {
		return fmt.Sprintf("%s: the openids of %d callbacks before %s", printable(e.AppID), n.Events, until)
	}
	return fmt.Sprintf("%s: %d events before %s (%d messages are known; those with later events stay), noted in %d records, and its name", printable(e.AppID), n.Events, until, n.Messages, n.Records)
}

// confirm asks on a terminal. Where nobody can answer, --yes has to.
func confirm(g *globals, question string) error {
	if !isTerminalReader(g.Stdin) {
		return usagef("nobody can be asked here: give --yes")
	}
	fmt.Fprintf(g.Stderr, "%s [yes/NO] ", question)
	answer, err := bufio.NewReader(g.Stdin).ReadString('\n')
	if err != nil && answer == "" {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(answer) != "yes" {
		fmt.Fprintln(g.Stderr, "nothing was deleted")
		return errSilent
	}
	return nil
}
