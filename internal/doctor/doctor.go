package doctor

import (
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"

	"qunfa/internal/config"
	"qunfa/internal/kafka"
	"qunfa/internal/wechat"
)

// Areas group checks by the question that they answer.
const (
	AreaConfig     = "configuration"
	AreaCallback   = "callback"
	AreaAPI        = "api"
	AreaKafka      = "kafka"
	AreaClickHouse = "clickhouse"
	AreaServices   = "services"
)

// Where more is written.
const (
	runbook    = "docs/runbook.md#"
	operations = "docs/operations.md#"
	docExample = "qunfa.example.yaml"
)

// Doctor makes the checks that a configuration calls for.
type Doctor struct {
	cfg      Config
	accounts []config.Account // those to look at one by one
	left     int              // how many accounts are too many for that
	callback *http.Client     // calls as WeChat does
	admin    *http.Client     // asks services
	api      *wechat.Client

	topics    map[string]*once[kafka.TopicState]
	database  once[struct{}]
	apiAnswer once[dated]
	refusals  atomic.Int32 // requests that ingest had to refuse and count
}

// New prepares a doctor; it looks at nothing yet.
func New(cfg Config) (*Doctor, error) {
	d := &Doctor{cfg: cfg.withDefaults(), topics: map[string]*once[kafka.TopicState]{}}
	for _, topic := range d.topicNames() {
		d.topics[topic] = &once[kafka.TopicState]{}
	}
	if err := d.chooseAccounts(); err != nil {
		return nil, err
	}
	if _, err := d.publicURL("wx0", "wx0"); err != nil {
		return nil, err
	}
	d.callback, d.admin = d.newClient(), d.newClient()
	var err error
	d.api, err = wechat.NewClient(wechat.Config{BaseURL: d.cfg.Settings.WeChat.BaseURL.Raw(), HTTP: d.cfg.Network.API, Clock: d.cfg.Clock})
	return d, err
}

// Close gives connections back.
func (d *Doctor) Close() { d.api.Close() }

func (d *Doctor) chooseAccounts() error {
	all := d.cfg.Settings.Accounts
	if len(d.cfg.Accounts) == 0 {
		d.left = max(0, len(all)-d.cfg.MaxAccounts)
		d.accounts = all[:len(all)-d.left]
		return nil
	}
	for _, id := range d.cfg.Accounts {
		i := slices.IndexFunc(all, func(a config.Account) bool { return a.AppID == id })
		if i < 0 {
			return fmt.Errorf("account %s is not in the configuration", id)
		}
		d.accounts = append(d.accounts, all[i])
	}
	return nil
}

// Checks are all checks, in the order in which people should read their findings.
func (d *Doctor) Checks() []Check {
	return slices.Concat(d.configChecks(), d.callbackChecks(), d.apiChecks(), d.kafkaChecks(), d.clickhouseChecks(), d.serviceChecks())
}

// leftOut adds that there are more accounts than are looked at one by one.
func (d *Doctor) leftOut(r Result) {
	if d.left > 0 {
		r.Unchecked("look at others with --account APPID", "%d accounts were not looked at: these are the first %d", d.left, len(d.accounts))
	}
}

// Secrets are all secrets that the configuration has, for [Redact].
func Secrets(cfg *config.Config) []string {
	list := []config.Secret{cfg.Kafka.SASL.Password, cfg.ClickHouse.Password, cfg.Ingest.APIToken, cfg.Ingest.OldAPIToken}
	for i := range cfg.Accounts {
		a := &cfg.Accounts[i]
		list = append(list, a.AppSecret, a.TokenURLBearer)
		list = append(append(list, a.Tokens...), a.AESKeys...)
	}
	for i := range cfg.Platforms {
		p := &cfg.Platforms[i]
		list = append(list, p.TokenURLBearer)
		list = append(append(list, p.Tokens...), p.AESKeys...)
	}
	return config.Reveal(slices.DeleteFunc(list, config.Secret.IsZero))
}
