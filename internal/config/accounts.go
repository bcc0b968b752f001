package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// dirAccounts is what the files of accounts_dir hold.
type dirAccounts struct {
	accounts []Account
	warnings []Warning
	files    []string // that were read, secret files included
}

// accountsDir reads every *.yaml and *.yml of the directory, in the order of
// their names. Hidden files are passed over: editors write them.
func (l Loader) accountsDir(c *Config, ps *problems) dirAccounts {
	var out dirAccounts
	if c.AccountsDir == "" {
		return out
	}
	entries, err := os.ReadDir(c.AccountsDir)
	if err != nil {
		ps.add(&Problem{Kind: ErrFile, Path: "accounts_dir", Place: c.origin.place("accounts_dir"),
			Message: fmt.Sprintf("cannot read the directory: %v", withoutName(err))})
		return out
	}
	for _, e := range entries {
		if isAccountsFile(e.Name()) {
			l.accountsFile(filepath.Join(c.AccountsDir, e.Name()), c.origin, ps, &out)
		}
	}
	return out
}

func isAccountsFile(name string) bool {
	ext := filepath.Ext(name)
	return (ext == ".yaml" || ext == ".yml") && !strings.HasPrefix(name, ".")
}

// accountsFile reads one account, or a list of them.
func (l Loader) accountsFile(path string, o *origin, ps *problems, out *dirAccounts) {
	out.files = append(out.files, path)
	data, err := readFile(path)
	if err != nil {
		ps.add(err.(*Problem)) // readFile has no other errors
		return
	}
	d := l.decoder(path, data, o)
	var list []Account
	at := "accounts_dir/" + filepath.Base(path)
	n := d.resolve(d.parse(data))
	if seq, ok := n.(*ast.SequenceNode); ok {
		d.decode(at, seq, reflect.ValueOf(&list).Elem())
	} else if n != nil {
		one := Account{path: at}
		one.setDefaults()
		d.decode(at, n, reflect.ValueOf(&one).Elem())
		list = append(list, one)
	}
	ps.list = append(ps.list, d.problems.list...)
	out.accounts = append(out.accounts, list...)
	out.warnings = append(out.warnings, d.warnings...)
	out.files = slices.Concat(out.files, d.files)
}
