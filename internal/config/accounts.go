package config

import (
	"errors"
	"fmt"
	"net/url"
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
	files    int
	secrets  []stamp // of the secret files that were read
}

// accountsDir reads every *.yaml and *.yml of the directory, in the order of
// their names. Hidden files are passed over: editors write them.
func (l Loader) accountsDir(dir string, o *origin, ps *problems) dirAccounts {
	var out dirAccounts
	if dir == "" {
		return out
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		ps.add(&Problem{Kind: ErrFile, Path: "accounts_dir", Place: o.place("accounts_dir"),
			Message: fmt.Sprintf("cannot read the directory: %v", withoutName(err))})
		return out
	}
	for _, e := range entries {
		if isAccountsFile(e.Name()) {
			l.accountsFile(filepath.Join(dir, e.Name()), o, ps, &out)
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
	out.files++
	data, err := readFile(path)
	if err != nil {
		p := &Problem{}
		errors.As(err, &p) // readFile has no other errors
		ps.add(p)
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
	out.secrets = append(out.secrets, d.secrets...)
}

// appIDPlaceholder in a token_url stands for the account's appid.
const appIDPlaceholder = "$APPID$"

// inherit gives the accounts of a platform its token_url, where they have no
// credentials of their own, and puts the appid into every token_url.
func inherit(accounts []Account, platforms []Platform) []Account {
	for i := range accounts {
		a := &accounts[i]
		for j := range platforms {
			if p := &platforms[j]; a.Platform != "" && a.Platform == p.ComponentAppID && !a.HasCredentials() {
				a.TokenURL, a.TokenURLBearer = p.TokenURL, p.TokenURLBearer
			}
		}
		a.TokenURL.raw = strings.ReplaceAll(a.TokenURL.raw, appIDPlaceholder, url.PathEscape(a.AppID))
	}
	return accounts
}

// accountSet is a new set of accounts, with those of the file itself.
type accountSet struct {
	accounts []Account
	warnings []Warning
	secrets  []stamp // of the secret files that were read
}

// reloadAccounts reads accounts_dir again and validates the accounts together
// with those of the file, which stay as they are. The secret files are returned
// even with an error, so that a change of them is noticed.
func (l Loader) reloadAccounts(c *Config) (accountSet, error) {
	ck := &checker{origin: &origin{marks: map[string]mark{}}}
	d := l.accountsDir(c.AccountsDir, ck.origin, &ck.problems)
	set := accountSet{secrets: d.secrets}
	if err := ck.err(); err != nil {
		return set, err
	}
	if d.files == 0 {
		return set, ErrNoAccounts
	}
	accounts := inherit(slices.Concat(c.Accounts[:c.own], d.accounts), c.Platforms)
	ck.accounts(accounts, c.Platforms)
	if err := ck.err(); err != nil {
		return set, err
	}
	w := &warner{origin: ck.origin, count: map[string]int{}}
	w.accounts(d.accounts)
	set.accounts, set.warnings = accounts, append(d.warnings, w.all()...)
	return set, nil
}
