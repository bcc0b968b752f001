package wechattest

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"time"
)

// Mode is how an account's pushes are protected.
type Mode string

// The modes of the "message encryption" setting: 明文, 兼容, 安全.
const (
	Plain      Mode = "plain"      // fields in clear, signature over token, timestamp and nonce only
	Compatible Mode = "compatible" // fields in clear and encrypted, in one document
	Safe       Mode = "safe"       // encrypted only
)

// Format is the account's push data format.
type Format string

// The formats that an account can choose. Third-party platforms get XML only.
const (
	XML  Format = "xml"
	JSON Format = "json"
)

// Account is an Official Account (公众号) with everything that WeChat knows
// about it. Fields left empty are drawn from the seed; [Simulator.Accounts]
// returns them filled in.
type Account struct {
	AppID      string `json:"appid"`       // wx and 16 hex digits
	OriginalID string `json:"original_id"` // gh_ and 12 hex digits: ToUserName of pushes
	Name       string `json:"name"`
	Secret     string `json:"-"` // AppSecret, for tokens of the API
	Token      string `json:"-"` // of the callback's signature
	AESKey     string `json:"-"` // EncodingAESKey, 43 characters of [A-Za-z0-9]
	Mode       Mode   `json:"mode"`
	Format     Format `json:"format"`
	// CallbackURL is where pushes go; empty if the account has none of its own.
	// It may have a query.
	CallbackURL string `json:"callback_url,omitempty"`
	// Component is the appid of the third-party platform the account
	// authorised, if any. Its pushes go to the platform's URL too when
	// CallbackURL is set, to that alone otherwise.
	Component string `json:"component,omitempty"`
	// Subscription accounts have one successful sendall per day and may not
	// send to openid lists; the others are service accounts.
	Subscription bool            `json:"subscription,omitempty"`
	Fans         int64           `json:"fans"`           // whole audience
	Tags         map[int64]int64 `json:"tags,omitempty"` // tag id to fans with it
}

// Component is a third-party platform (第三方平台): one token and one key for all
// accounts that authorised it, safe mode and XML only.
type Component struct {
	AppID  string `json:"appid"`
	Token  string `json:"-"`
	AESKey string `json:"-"`
	// URL receives the messages and events of all accounts; $APPID$ in it is
	// replaced by the account's appid.
	URL string `json:"url,omitempty"`
	// TicketURL receives component_verify_ticket notices; it has no $APPID$.
	TicketURL string `json:"ticket_url,omitempty"`
}

// Config of a [Simulator]. The zero value of every field but Accounts has a
// default, told beside it.
type Config struct {
	// Seed decides everything that is drawn. Zero is a seed like any other.
	Seed       uint64
	Accounts   []Account
	Components []Component

	// Clock gives the dates that are written into payloads and answers and the
	// age of tokens and messages. Default time.Now. Waiting is always done with
	// real timers (under testing/synctest: with the bubble's).
	Clock func() time.Time
	// Logger takes what an operator of the simulator would want to know.
	// Default: nothing is logged.
	Logger *slog.Logger
	// Scale divides every delay of WeChat's: at 60 a minute lasts a second.
	// Default 1.
	Scale float64

	// Listener serves the API. Default: a free port of 127.0.0.1, bound by [New].
	Listener net.Listener
	// Transport carries pushes. Default: one that belongs to the simulator.
	Transport http.RoundTripper

	// Plans decides what becomes of sends that no [Simulator.Arrange] foresaw.
	// Default: every send succeeds after a minute. It is called with the
	// simulator locked: it must not call back into it.
	Plans func(Call) Plan

	// AttemptTimeout is the time a receiver has to answer a push. Default 5 s
	// as documented. Not scaled.
	AttemptTimeout time.Duration
	// RetrySpacing are the pauses between the attempts of one push, whose
	// number is therefore len+1. WeChat documents three in total and no
	// spacing. Default {2 s, 10 s}. Scaled.
	RetrySpacing []time.Duration
	// Deliveries bounds the pushes that are under way at one time. Default 32.
	Deliveries int

	// TokenLife is how long an access token is good. Default 7200 s. Not
	// scaled, since it is announced in seconds to a client with a clock.
	TokenLife time.Duration
	// HideFor is how long mass/get answers 40059 after a submission.
	// Default 20 s. Scaled.
	HideFor time.Duration
	// Limits are the quotas of each account.
	Limits Limits
}

// Limits are the quotas of one account; zero fields take the documented figure.
type Limits struct {
	PerMinute  int64 // requests of all mass endpoints together; default 60
	SendPerDay int64 // sendall and send together; default 100
	GetPerDay  int64 // mass/get, whose figure is not published; default 1000
	Delete     int64 // per day; default 10
	Preview    int64 // per day; default 100
	Force      int64 // forced refreshes of the stable token per day; default 20
	Token      int64 // cgi-bin/token per day; default 2000
	Clear      int64 // clear_quota per month; default 10
}

var (
	errNoAccounts = errors.New("wechattest: a simulator needs at least one account")

	encodingAESKey = regexp.MustCompile(`^[A-Za-z0-9]{43}$`)
)

// withDefaults returns the configuration completed and checked. Accounts are
// copied: the caller's are never written to.
func (c Config) withDefaults() (Config, error) {
	if len(c.Accounts) == 0 {
		return c, errNoAccounts
	}
	setDefault(&c.Scale, 1)
	setDefault(&c.AttemptTimeout, 5*time.Second)
	setDefault(&c.Deliveries, 32)
	setDefault(&c.TokenLife, 7200*time.Second)
	setDefault(&c.HideFor, 20*time.Second)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.RetrySpacing == nil {
		c.RetrySpacing = []time.Duration{2 * time.Second, 10 * time.Second}
	}
	if c.Plans == nil {
		c.Plans = func(Call) Plan { return Success() }
	}
	if c.Scale < 0 || c.AttemptTimeout < 0 || c.Deliveries < 0 || c.TokenLife < 0 || c.HideFor < 0 {
		return c, errors.New("wechattest: scale, timeouts and bounds cannot be negative")
	}
	c.Limits = c.Limits.withDefaults()
	return c.withCompleteAccounts()
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.PerMinute, 60)
	setDefault(&l.SendPerDay, 100)
	setDefault(&l.GetPerDay, 1000)
	setDefault(&l.Delete, 10)
	setDefault(&l.Preview, 100)
	setDefault(&l.Force, 20)
	setDefault(&l.Token, 2000)
	setDefault(&l.Clear, 10)
	return l
}

func setDefault[T int | int64 | float64 | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

func (c Config) withCompleteAccounts() (Config, error) {
	components := make(map[string]bool)
	c.Components = append([]Component(nil), c.Components...)
	for i := range c.Components {
		c.Components[i] = c.Components[i].complete(c.Seed, i)
		if err := c.Components[i].check(); err != nil {
			return c, err
		}
		components[c.Components[i].AppID] = true
	}
	seen := make(map[string]bool)
	c.Accounts = append([]Account(nil), c.Accounts...)
	for i := range c.Accounts {
		a := c.Accounts[i].complete(c.Seed, i)
		if err := a.check(); err != nil {
			return c, err
		}
		if seen[a.AppID] || components[a.AppID] {
			return c, fmt.Errorf("wechattest: appid %s is there twice", a.AppID)
		}
		if a.Component != "" && !components[a.Component] {
			return c, fmt.Errorf("wechattest: account %s: unknown component %s", a.AppID, a.Component)
		}
		seen[a.AppID] = true
		c.Accounts[i] = a
	}
	return c, nil
}

// complete fills in what is empty from the seed and the account's position.
func (a Account) complete(seed uint64, i int) Account {
	d := draw(seed, "account", i)
	appid, original, secret, token, key := "wx"+d.hex(16), "gh_"+d.hex(12), d.hex(32), d.text(16), d.text(43)
	fans := 2000 + d.between(0, 60_000)
	orString(&a.AppID, appid)
	orString(&a.OriginalID, original)
	orString(&a.Secret, secret)
	orString(&a.Token, token)
	orString(&a.AESKey, key)
	orString(&a.Name, fmt.Sprintf("测试账号 %d", i+1))
	if a.Mode == "" {
		a.Mode = Safe
	}
	if a.Format == "" {
		a.Format = XML
	}
	setDefault(&a.Fans, fans)
	if a.Tags == nil {
		a.Tags = map[int64]int64{2: a.Fans / 10, 100: a.Fans / 3, 101: a.Fans / 20}
	}
	return a
}

func (a Account) check() error {
	if !encodingAESKey.MatchString(a.AESKey) {
		return fmt.Errorf("wechattest: account %s: an EncodingAESKey has 43 letters and digits", a.AppID)
	}
	switch a.Mode {
	case Plain, Compatible, Safe:
	default:
		return fmt.Errorf("wechattest: account %s: unknown mode %q", a.AppID, a.Mode)
	}
	switch a.Format {
	case XML, JSON:
	default:
		return fmt.Errorf("wechattest: account %s: unknown format %q", a.AppID, a.Format)
	}
	return nil
}

func (c Component) complete(seed uint64, i int) Component {
	d := draw(seed, "component", i)
	appid, token, key := "wx"+d.hex(16), d.text(16), d.text(43)
	orString(&c.AppID, appid)
	orString(&c.Token, token)
	orString(&c.AESKey, key)
	return c
}

func (c Component) check() error {
	if !encodingAESKey.MatchString(c.AESKey) {
		return fmt.Errorf("wechattest: component %s: an EncodingAESKey has 43 letters and digits", c.AppID)
	}
	return nil
}

func orString(field *string, value string) {
	if *field == "" {
		*field = value
	}
}
