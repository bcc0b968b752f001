package ingest

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

// appidPlaceholder in an upstream URL stands for the appid, as it does in the
// callback URL of a third-party platform.
const appidPlaceholder = "$APPID$"

// Account is an Official Account whose pushes come to a URL of its own.
type Account struct {
	AppID      string
	OriginalID string // gh_…, what the body of a push names; empty if not known
	Name       string // for people
	// Verifier is nil for an account that has no callback URL of its own: it is
	// known to the record API, and its path is answered like an unknown one.
	Verifier *wechat.Verifier
	// Plain says that unencrypted pushes are accepted: anybody who has seen one
	// URL can forge them. See [Directory.Plain].
	Plain bool
	// Upstream is the application that had the callback URL before; nil for
	// none. "$APPID$" in it stands for the appid.
	Upstream *url.URL
	// UpstreamMass says whether it gets our MASSSENDJOBFINISH pushes as well.
	UpstreamMass bool
}

// Platform is a third-party platform (第三方平台): many accounts behind one
// token and key.
type Platform struct {
	ComponentAppID string
	Verifier       *wechat.Verifier // its keys name the component's appid
	// Accounts maps the appid of each authorised account to its original id. Both are
	// needed: the appid in the path is not signed, the original id is.
	Accounts map[string]string
	// Upstream and UpstreamMass are as in [Account].
	Upstream     *url.URL
	UpstreamMass bool
}

// Directory knows the accounts. It may be replaced at any time, while requests
// are being served.
type Directory struct{ current atomic.Pointer[snapshot] }

// snapshot is the content of a directory at one time. It never changes.
type snapshot struct {
	accounts  map[string]*target            // by appid
	platforms map[string]map[string]*target // by component appid and appid
	plain     []string
}

// target is whom a callback URL names.
type target struct {
	appid        string
	originalID   string
	platform     bool
	verifier     *wechat.Verifier
	upstream     *url.URL
	upstreamMass bool
}

// NewDirectory makes a directory; its error lists everything that is wrong.
func NewDirectory(accounts []Account, platforms []Platform) (*Directory, error) {
	d := &Directory{}
	if err := d.Replace(accounts, platforms); err != nil {
		return nil, err
	}
	return d, nil
}

// Replace swaps the whole content. Requests at work keep what they looked up.
// With an error nothing has changed.
func (d *Directory) Replace(accounts []Account, platforms []Platform) error {
	s := &snapshot{accounts: map[string]*target{}, platforms: map[string]map[string]*target{}}
	var errs []error
	for _, a := range accounts {
		if err := s.addAccount(a); err != nil {
			errs = append(errs, fmt.Errorf("account %q: %w", a.AppID, err))
		}
	}
	for _, p := range platforms {
		if err := s.addPlatform(p); err != nil {
			errs = append(errs, fmt.Errorf("platform %q: %w", p.ComponentAppID, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	slices.Sort(s.plain)
	d.current.Store(s)
	return nil
}

// Plain lists the accounts, by appid, that accept unencrypted pushes. The body
// of such a push is not signed: whoever sees one URL of WeChat's, in a proxy's
// log for instance, can forge results for as long as its timestamp is accepted.
func (d *Directory) Plain() []string { return slices.Clone(d.current.Load().plain) }

// Known tells whether an account is configured, by itself or in a platform.
func (d *Directory) Known(appid string) bool {
	s := d.current.Load()
	if s.accounts[appid] != nil {
		return true
	}
	for _, accounts := range s.platforms {
		if accounts[appid] != nil {
			return true
		}
	}
	return false
}

// find returns the target of a callback path, or nil. component is empty for
// an account's own path.
func (d *Directory) find(component, appid string) *target {
	s := d.current.Load()
	t := s.platforms[component][appid]
	if component == "" {
		t = s.accounts[appid]
	}
	if t == nil || t.verifier == nil {
		return nil
	}
	return t
}

func (s *snapshot) addAccount(a Account) error {
	if err := checkTarget(a.AppID, a.Upstream); err != nil {
		return err
	}
	if s.accounts[a.AppID] != nil {
		return errors.New("is there twice")
	}
	if a.Plain && a.Verifier != nil {
		s.plain = append(s.plain, a.AppID)
	}
	s.accounts[a.AppID] = &target{
		appid: a.AppID, originalID: a.OriginalID, verifier: a.Verifier,
		upstream: fillIn(a.Upstream, a.AppID), upstreamMass: a.UpstreamMass,
	}
	return nil
}

func (s *snapshot) addPlatform(p Platform) error {
	if err := checkTarget(p.ComponentAppID, p.Upstream); err != nil {
		return err
	}
	if p.Verifier == nil {
		return errors.New("has no verifier")
	}
	if s.platforms[p.ComponentAppID] != nil {
		return errors.New("is there twice")
	}
	targets := make(map[string]*target, len(p.Accounts))
	for _, appid := range slices.Sorted(maps.Keys(p.Accounts)) {
		if err := events.CheckAppID(appid); err != nil {
			return err
		}
		if p.Accounts[appid] == "" {
			return fmt.Errorf("account %q has no original_id: without it a push for one account would pass for another's", appid)
		}
		targets[appid] = &target{
			appid: appid, originalID: p.Accounts[appid], platform: true, verifier: p.Verifier,
			upstream: fillIn(p.Upstream, appid), upstreamMass: p.UpstreamMass,
		}
	}
	s.platforms[p.ComponentAppID] = targets
	return nil
}

func checkTarget(appid string, upstream *url.URL) error {
	if err := events.CheckAppID(appid); err != nil {
		return err
	}
	if upstream != nil && (upstream.Host == "" || upstream.Scheme != "http" && upstream.Scheme != "https") {
		return errors.New("upstream must be an http or https URL")
	}
	return nil
}

// fillIn puts the appid in the place of its placeholder. An appid holds nothing
// that a URL would need escaped.
func fillIn(u *url.URL, appid string) *url.URL {
	if u == nil {
		return nil
	}
	filled := *u
	for _, part := range []*string{&filled.Path, &filled.RawPath, &filled.RawQuery} {
		*part = strings.ReplaceAll(*part, appidPlaceholder, appid)
	}
	return &filled
}
