package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"qunfa/internal/app"
	"qunfa/internal/clickhouse"
	"qunfa/internal/config"
	"qunfa/internal/daemon"
	"qunfa/internal/local"
	"qunfa/internal/wechat/wechattest"
)

// Options say how to play.
type Options struct {
	Dir     string // of the stack; see [Prepare]
	Seed    uint64
	Out     io.Writer
	Live    bool // Out is a terminal: progress overwrites itself
	Logger  *slog.Logger
	Install func(context.Context) error // see [local.Options]
	Stack   func(local.Options) local.Options
	Ports   bool // ask for the usual ports, and replace those that are busy; else any free ones
}

// Scale is how many times faster than life WeChat's own delays pass.
const Scale = 180

// The polling schedule of the demo: three days in half a minute.
const (
	firstPoll = 12 * time.Second
	nextPolls = 4 * time.Second
	giveUp    = 40 * time.Second
)

// settleTimeout is how long to wait for everything to come to its end.
const settleTimeout = 3 * time.Minute

// Demo is a stack with a simulated WeChat in front of it.
type Demo struct {
	Stack *local.Stack
	Sim   *wechattest.Simulator

	o        Options
	scenario wechattest.Scenario
	upstream *upstream
	reader   *clickhouse.DB
	say      *narrator
	done     chan error // of the stack
	cancel   context.CancelFunc
}

// Start starts everything. Nothing is sent yet.
func Start(ctx context.Context, o Options) (_ *Demo, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Demo{o: o, scenario: wechattest.Demo(o.Seed), say: &narrator{out: o.Out, live: o.Live, began: time.Now()}}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.upstream, err = startUpstream(); err != nil {
		return nil, err
	}
	d.Sim, err = wechattest.New(wechattest.Config{
		Seed: o.Seed, Accounts: d.scenario.Accounts, Components: d.scenario.Components, Scale: Scale, Logger: o.Logger.With("service", "simulator"),
	})
	if err != nil {
		return nil, err
	}
	cfg, err := d.config()
	if err != nil {
		return nil, err
	}
	lo := local.Options{Logger: o.Logger, Progress: d.say.line, Install: o.Install, FreePort: o.Ports}
	if o.Stack != nil {
		lo = o.Stack(lo)
	}
	if d.Stack, err = local.Start(ctx, cfg, lo); err != nil {
		return nil, err
	}
	if d.reader, err = openReader(d.Stack); err != nil {
		return nil, err
	}
	d.run(ctx)
	d.Sim.PointAt("http://" + d.Stack.Conn.Ingest)
	d.Sim.Start()
	return d, d.awaitReady(ctx)
}

// run runs the stack until Close.
func (d *Demo) run(ctx context.Context) {
	// The stack outlives ctx for as long as Close needs to stop it in order.
	ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	d.done = make(chan error, 1)
	go func() { d.done <- d.Stack.Run(ctx) }()
}

// Close stops everything and waits for it.
func (d *Demo) Close() error {
	var errs []error
	if d.Sim != nil {
		errs = append(errs, d.Sim.Close())
	}
	if d.reader != nil {
		errs = append(errs, d.reader.Close())
	}
	switch {
	case d.cancel != nil:
		d.cancel()
		errs = append(errs, <-d.done)
	case d.Stack != nil:
		errs = append(errs, d.Stack.Close())
	}
	if d.upstream != nil {
		errs = append(errs, d.upstream.close())
	}
	return errors.Join(errs...)
}

// marker is what a directory must have to be emptied: a stack was there.
const marker = "qunfa.lock"

// Prepare makes an empty directory, and removes what an earlier demo left in it.
// It touches nothing else: neither a directory that is in use, nor one that holds
// something of somebody's.
func Prepare(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(dir, marker)); err != nil {
			return fmt.Errorf("%s is not empty and was not made by qunfa: choose another directory", dir)
		}
	}
	lock, err := local.LockDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	for _, e := range entries {
		if e.Name() == marker {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (d *Demo) config() (*config.Config, error) {
	cfg := config.Default()
	cfg.Embedded.Dir = d.o.Dir
	cfg.Reconcile.Instance = "demo"
	cfg.Reconcile.Interval = time.Second
	cfg.Reconcile.FirstPoll = firstPoll
	cfg.Reconcile.Schedule = []time.Duration{nextPolls}
	cfg.Reconcile.GiveUpAfter = giveUp
	cfg.Reconcile.RatePerMinute = 50
	if !d.o.Ports {
		cfg.Ingest.Listen, cfg.Ingest.Internal, cfg.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
		cfg.Embedded.TCPPort, cfg.Embedded.HTTPPort = 0, 0
	}
	var err error
	if cfg.WeChat.BaseURL, err = config.ParseURL(d.Sim.URL()); err != nil {
		return nil, err
	}
	behind, err := config.ParseURL(d.upstream.url())
	if err != nil {
		return nil, err
	}
	for _, a := range d.Sim.Accounts() {
		account := config.Account{
			AppID: a.AppID, OriginalID: a.OriginalID, Name: a.Name, Poll: true,
			Tokens: []config.Secret{config.NewSecret(a.Token)}, AppSecret: config.NewSecret(a.Secret),
			Upstream: behind,
		}
		if a.Mode != wechattest.Plain {
			account.AESKeys = []config.Secret{config.NewSecret(a.AESKey)}
		}
		cfg.Accounts = append(cfg.Accounts, account)
	}
	return cfg, cfg.Validate()
}

// openReader connects as the user who sees the views alone, as an analyst would.
func openReader(s *local.Stack) (*clickhouse.DB, error) {
	cfg := *s.Config
	cfg.ClickHouse.Username = s.Conn.ClickHouse.ReaderUsername
	cfg.ClickHouse.Password = config.NewSecret(s.Conn.ClickHouse.ReaderPassword)
	return app.OpenClickHouse(&cfg, app.Options{})
}

// poll calls check until it says true, ctx ends, the stack stops, or the time is over.
func (d *Demo) poll(ctx context.Context, within time.Duration, check func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !check() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-d.done:
			d.done <- err // for Close
			return fmt.Errorf("a service stopped: %w", err)
		case <-tick.C:
		}
	}
	return nil
}

func (d *Demo) awaitReady(ctx context.Context) error {
	var results []daemon.Result
	err := d.poll(ctx, time.Minute, func() bool {
		ready, r := d.Stack.Host.Ready()
		results = r
		return ready
	})
	if err != nil {
		return fmt.Errorf("the services did not become ready: %w: %v", err, results)
	}
	for _, a := range d.Sim.Accounts() {
		if err := d.Sim.VerifyURL(ctx, a.AppID); err != nil {
			return fmt.Errorf("verify the callback URL of %s: %w", a.Name, err)
		}
	}
	d.say.line(fmt.Sprintf("ready: %d accounts, their callback URLs verified as WeChat does it", len(d.Sim.Accounts())))
	return nil
}

// Play sends everything and waits until the database has what the ledger says,
// or until nothing more can be expected.
func (d *Demo) Play(ctx context.Context) error {
	op := wechattest.Operator{Record: d.record, Progress: d.say.step}
	d.say.begin("30 days of history")
	if err := d.Sim.PlayHistory(ctx, d.scenario, op); err != nil {
		return err
	}
	if err := d.drain(ctx); err != nil {
		return err
	}
	d.say.begin("today, live")
	if err := d.Sim.Play(ctx, d.scenario, op); err != nil {
		return err
	}
	return d.settle(ctx)
}

func (d *Demo) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return d.Sim.Drain(ctx)
}

// settle waits until the database agrees with the ledger. The ledger changes
// meanwhile: callbacks are late, and some messages are found by polling alone.
func (d *Demo) settle(ctx context.Context) error {
	d.say.begin("late callbacks, and polls for those that never come")
	var failure error
	err := d.poll(ctx, settleTimeout, func() bool {
		s := d.Sim.Stats()
		c, err := d.Compare(ctx)
		failure = err
		if err != nil {
			return false
		}
		d.say.status(fmt.Sprintf("%d messages, %d callbacks delivered, %d to come, %d polls, %d messages not settled yet",
			s.Messages, s.Delivered, s.Due, s.Polls, c.Unsettled()))
		return s.Due == 0 && c.Unsettled() == 0
	})
	d.say.end()
	if errors.Is(err, context.DeadlineExceeded) && failure == nil {
		return nil // the comparison tells what is wrong
	}
	return errors.Join(err, failure)
}

// record tells the record API what was sent, as the sending application would.
func (d *Demo) record(ctx context.Context, receipts []wechattest.Receipt) error {
	body, err := json.Marshal(receipts)
	if err != nil {
		return err
	}
	url := "http://" + d.Stack.Conn.RecordAPI + "/v1/submissions"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+d.Stack.Conn.APIToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("record API: %s: %s", resp.Status, answer)
	}
	return nil
}
