package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
)

// checkConfigCmd checks the configuration.
type checkConfigCmd struct {
	Print bool `help:"Print all of it instead, defaults included and secrets hidden."`
}

// Run implements the command.
func (c *checkConfigCmd) Run(g *globals) error {
	cfg, warnings, err := config.Load(g.Config)
	if !c.Print && g.format(formatTable) != formatJSON {
		for _, w := range warnings {
			fmt.Fprintf(g.Stderr, "warning: %s\n", w)
		}
	}
	if err != nil {
		return &usageError{err}
	}
	if c.Print {
		return cfg.Print(g.Stdout)
	}
	report := reportOn(g.Config, cfg, warnings)
	if g.format(formatTable) == formatJSON {
		return g.printJSON(report)
	}
	return report.print(g)
}

// configReport is what check-config says of a valid configuration.
type configReport struct {
	File     string          `json:"file"`
	Accounts []accountReport `json:"accounts"`
	Services []serviceReport `json:"services"`
	Warnings []string        `json:"warnings"`
}

type accountReport struct {
	AppID    string `json:"appid"`
	Name     string `json:"name"`
	Push     string `json:"callbacks"` // how they are protected, or through which platform they come
	Polls    string `json:"polls"`     // with what WeChat is asked
	Upstream string `json:"upstream"`  // without its query
}

type serviceReport struct {
	Service string   `json:"service"`
	Lacks   []string `json:"lacks"` // keys; none: it can run
	Why     string   `json:"why,omitempty"`
}

func reportOn(file string, cfg *config.Config, warnings []config.Warning) configReport {
	r := configReport{File: file, Accounts: []accountReport{}, Warnings: []string{}}
	for i := range cfg.Accounts {
		r.Accounts = append(r.Accounts, reportOnAccount(&cfg.Accounts[i]))
	}
	for _, s := range []config.Service{config.ServiceUp, config.ServiceIngest, config.ServiceSink, config.ServiceReconcile, config.ServiceMigrate} {
		r.Services = append(r.Services, reportOnService(cfg, s))
	}
	for _, w := range warnings {
		r.Warnings = append(r.Warnings, w.String())
	}
	return r
}

func reportOnService(cfg *config.Config, s config.Service) serviceReport {
	r := serviceReport{Service: string(s), Lacks: []string{}}
	if s == config.ServiceUp && (len(cfg.Kafka.Brokers) > 0 || len(cfg.ClickHouse.Addr) > 0) {
		r.Why = "it names servers, and `qunfa up` brings its own"
	}
	err := cfg.ValidateFor(s)
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if p, ok := errors.AsType[*config.Problem](e); ok {
				r.Lacks = append(r.Lacks, p.Path)
			}
		}
	} else if p, ok := errors.AsType[*config.Problem](err); ok {
		r.Lacks = append(r.Lacks, p.Path)
	}
	return r
}

func (r serviceReport) String() string {
	switch {
	case len(r.Lacks) > 0:
		return "lacks " + strings.Join(r.Lacks, ", ")
	case r.Why != "":
		return "cannot run: " + r.Why
	}
	return "has what it needs"
}

func reportOnAccount(a *config.Account) accountReport {
	r := accountReport{AppID: a.AppID, Name: cmp.Or(a.Name, a.AppID), Upstream: a.Upstream.String()}
	switch {
	case a.Platform != "":
		r.Push = "platform " + a.Platform
	case len(a.Tokens) == 0:
		r.Push = "none"
	case len(a.AESKeys) == 0:
		r.Push = "plain"
	case a.AllowPlain:
		r.Push = "encrypted or plain"
	default:
		r.Push = "encrypted"
	}
	switch {
	case !a.Poll:
		r.Polls = "off"
	case !a.TokenURL.IsZero():
		r.Polls = "token_url"
	case !a.AppSecret.IsZero():
		r.Polls = "app_secret"
	default:
		r.Polls = "no credentials"
	}
	return r
}

func (r configReport) print(g *globals) error {
	fmt.Fprintf(g.Stdout, "%s is valid. Accounts: %d\n", r.File, len(r.Accounts))
	accounts := &clickhouse.Result{Columns: textColumns("appid", "name", "callbacks", "polls", "upstream")}
	for _, a := range r.Accounts {
		accounts.Rows = append(accounts.Rows, []any{a.AppID, a.Name, a.Push, a.Polls, a.Upstream})
	}
	if len(accounts.Rows) > 0 {
		if err := writeTable(g.Stdout, accounts); err != nil {
			return err
		}
	}
	fmt.Fprintln(g.Stdout, "What can run with it: `qunfa up`, which brings its own servers, or each program by itself")
	for _, s := range r.Services {
		fmt.Fprintf(g.Stdout, "  %-9s %s\n", s.Service, s)
	}
	return nil
}

func textColumns(names ...string) []clickhouse.Column {
	var columns []clickhouse.Column
	for _, n := range names {
		columns = append(columns, clickhouse.Column{Name: n, Type: "String"})
	}
	return columns
}
