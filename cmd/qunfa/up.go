package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"qunfa/internal/app"
	"qunfa/internal/config"
	"qunfa/internal/daemon"
	"qunfa/internal/local"
)

// upCmd runs everything on this machine for real accounts.
type upCmd struct{}

// Run implements the command.
func (c *upCmd) Run(g *globals) error {
	if _, err := os.Stat(g.Config); errors.Is(err, fs.ErrNotExist) {
		return noConfig(g.Config)
	}
	cfg, err := app.LoadConfig(g.Config, g.Stderr)
	if err != nil {
		return err
	}
	if len(cfg.Kafka.Brokers) > 0 || len(cfg.ClickHouse.Addr) > 0 {
		return errors.New("this configuration names servers (kafka.brokers, clickhouse.addr), and `qunfa up` brings its own:" +
			" take them out, or run the programs ingest, sink and reconcile with it")
	}
	if err := cfg.ValidateFor(config.ServiceUp); err != nil {
		return &usageError{err}
	}
	log, err := daemon.NewLogger(g.Stderr, cfg.Log.Format, cfg.Log.Level)
	if err != nil {
		return err
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	s, err := local.Start(g.ctx, cfg, local.Options{
		Logger: log, Install: installer(g),
		Wrap: func(o app.Options) app.Options {
			o.Version, o.Reload = version, reload
			return o
		},
		Progress: func(what string) { fmt.Fprintln(g.Stdout, what) },
	})
	if err != nil {
		return err
	}
	c.explain(g, cfg, s)
	return s.Run(g.ctx)
}

func (c *upCmd) explain(g *globals, cfg *config.Config, s *local.Stack) {
	conn := s.Conn
	fmt.Fprintf(g.Stdout, `
qunfa is running for %d accounts. Ctrl-C stops it.
  callbacks         http://%s/callback/{appid}   (WeChat must reach this from outside on port 80 or 443: put a proxy in front)
  record API        http://%s/v1/submissions   (token in %s/api_token, unless the configuration has one)
  delivery metrics  http://%s/metrics/delivery
  readiness         http://%s/readyz
  SQL               %s query --data %s "SELECT * FROM messages ORDER BY day DESC LIMIT 10"
`, len(cfg.Accounts), conn.Ingest, conn.RecordAPI, s.Dir, conn.Admin, conn.Admin, os.Args[0], s.Dir)
	if conn.ClickHouse.HTTPAddr != "" {
		fmt.Fprintf(g.Stdout, "  SQL in a browser  http://%s/play   (user %s; its password is in %s/connection.json)\n\n", conn.ClickHouse.HTTPAddr, conn.ClickHouse.ReaderUsername, s.Dir)
	}
}

func noConfig(path string) error {
	return fmt.Errorf(`there is no configuration %s. The shortest one that works:

  accounts:
    - appid: wx0123456789abcdef        # 开发者ID (AppID)
      name: My account
      tokens: [the token that you enter for the callback URL]
      aes_keys: [the EncodingAESKey, 43 characters; leave it out for plain mode]
      app_secret: ${WECHAT_APP_SECRET} # for polling; leave it out and nothing is polled

Put that into %s, or copy qunfa.example.yaml, where every setting is explained.
`+"`qunfa demo` shows everything without any account", path, path)
}
