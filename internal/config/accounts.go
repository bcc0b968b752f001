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
	kept     keptFiles
}

// keptFiles is what files held when they were last read. Among 100,000 accounts a few
// change at a time, and reading them all takes seconds and half a gigabyte.
type keptFiles map[string]keptFile

type keptFile struct {
	stamp    stamp
	accounts []Account
	warnings []Warning
	secrets  []stamp
}

// fresh tells whether neither the file nor a secret file that it names has changed.
func (k keptFile) fresh(now stamp) bool {
	return k.stamp == now && !slices.ContainsFunc(k.secrets, func(s stamp) bool { return stampOf(s.path) != s })
}

// add adds the content of a file.
func (d *dirAccounts) add(k keptFile) {
	d.accounts = append(d.accounts, k.accounts...)
	d.warnings = append(d.warnings, k.warnings...)
	d.secrets = append(d.secrets, k.secrets...)
}

// accountsDir reads every *.yaml and *.yml of the directory, in the order of
// their names. Hidden files are passed over: editors write them. Of files that have not
// changed it takes what was kept.
func (l Loader) accountsDir(dir string, o *origin, ps *problems, kept keptFiles) dirAccounts {
	out := dirAccounts{kept: keptFiles{}}
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
		if !isAccountsFile(e.Name()) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		now := stampOf(path) // before reading, so that a change meanwhile is noticed
		file, ok := kept[path]
		if !ok || !file.fresh(now) {
			file, ok = l.accountsFile(path, o, ps)
			file.stamp = now
		}
		out.files++
		out.add(file)
		if ok {
			out.kept[path] = file
		}
	}
	return out
}

func isAccountsFile(name string) bool {
	ext := filepath.Ext(name)
	return (ext == ".yaml" || ext == ".yml") && !strings.HasPrefix(name, ".")
}

// accountsFile reads one account, or a list of them. ok is false if something is wrong.
func (l Loader) accountsFile(path string, o *origin, ps *problems) (file keptFile, ok bool) {
	data, err := readFile(path)
	if err != nil {
		p := &Problem{}
		errors.As(err, &p) // readFile has no other errors
		ps.add(p)
		return keptFile{}, false
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
	return keptFile{accounts: list, warnings: d.warnings, secrets: d.secrets}, len(d.problems.list) == 0
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
	kept     keptFiles
}

// reloadAccounts reads accounts_dir again and validates the accounts together
// with those of the file, which stay as they are. The secret files are returned
// even with an error, so that a change of them is noticed. Files that have not changed
// since they were kept are not read.
func (l Loader) reloadAccounts(c *Config, kept keptFiles) (accountSet, error) {
	set, err := l.rereadAccounts(c, kept)
	if err != nil && len(kept) > 0 {
		return l.rereadAccounts(c, nil) // all of them: errors say where in the files
	}
	return set, err
}

func (l Loader) rereadAccounts(c *Config, kept keptFiles) (accountSet, error) {
	ck := &checker{origin: &origin{marks: map[string]mark{}}}
	d := l.accountsDir(c.AccountsDir, ck.origin, &ck.problems, kept)
	set := accountSet{secrets: d.secrets, kept: d.kept}
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
