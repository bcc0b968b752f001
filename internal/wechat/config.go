package wechat

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultBaseURL is where WeChat's APIs are.
const DefaultBaseURL = "https://api.weixin.qq.com"

// DefaultTimeout bounds a request, body included, if Config.HTTP is nil.
const DefaultTimeout = 10 * time.Second

// Config configures a [Client]. The zero value is good for production.
type Config struct {
	// BaseURL is DefaultBaseURL if empty. A path in it is kept, for proxies; a query is refused.
	BaseURL string
	// HTTP makes the requests; if nil, a client of our own with DefaultTimeout. It
	// never follows redirects, whatever it is set to: they would carry the token elsewhere.
	HTTP *http.Client
	// Logger is told about new tokens; if nil, nobody is.
	Logger *slog.Logger
	// Clock is time.Now if nil. Tokens expire by it.
	Clock func() time.Time
	// Registerer gets the metrics; if nil, nobody does.
	Registerer prometheus.Registerer
}

// withDefaults fills in what is not set.
func (c Config) withDefaults() Config {
	if c.BaseURL == "" {
		c.BaseURL = DefaultBaseURL
	}
	c.BaseURL = strings.TrimRight(c.BaseURL, "/")
	if c.HTTP == nil {
		c.HTTP = &http.Client{Timeout: DefaultTimeout, Transport: http.DefaultTransport.(*http.Transport).Clone()}
	}
	own := *c.HTTP
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.HTTP = &own
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}

// checkURL refuses what is no URL for requests. The error does not quote the URL, which
// may hold a password or a key.
func checkURL(what, raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s is not a URL", what)
	}
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("%s: want http:// or https:// and a host", what)
	}
	return u, nil
}
