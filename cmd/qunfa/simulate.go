package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"qunfa/internal/daemon"
	"qunfa/internal/wechat/wechattest"
)

// simulateCmd plays WeChat for services that run elsewhere, with the accounts and
// the history of `qunfa demo`. Afterwards it goes on sending, so that dashboards
// have something to show. It keeps everything in memory: a new start is a new play.
type simulateCmd struct {
	Accounts bool `help:"Print the accounts as an accounts_dir file, and exit. Their secrets follow from the seed and protect nothing."`

	Seed   uint64        `help:"Decides everything that is drawn." default:"1"`
	Listen string        `help:"Where the API of WeChat is served: wechat.base_url of the services." default:"127.0.0.1:8090" placeholder:"HOST:PORT"`
	Ingest string        `help:"Where callbacks go." default:"http://127.0.0.1:8080" placeholder:"URL"`
	API    string        `help:"Record API." name:"api" default:"127.0.0.1:8081" placeholder:"HOST:PORT"`
	Token  string        `help:"File with the token of the record API." type:"existingfile" placeholder:"FILE"`
	Every  time.Duration `help:"Pause between two sends after the play." default:"20s"`
	Scale  float64       `help:"How many times faster than life WeChat's delays pass." default:"60"`
}

// recordPatience is how long a record API that is away is asked again.
const recordPatience = 5 * time.Minute

// Run implements the command. It ends when it is told to.
func (c *simulateCmd) Run(g *globals) (err error) {
	scenario := wechattest.Demo(c.Seed)
	if c.Accounts {
		return writeSimulated(g.Stdout, scenario.Accounts)
	}
	token, err := os.ReadFile(c.Token)
	if err != nil {
		return usagef("--token: %w", err)
	}
	sim, err := c.simulator(g, scenario)
	if err != nil {
		return err
	}
	sim.PointAt(c.Ingest)
	sim.Start()
	defer func() { err = errors.Join(err, sim.Close()) }()
	op := wechattest.Operator{Record: recordAt(c.API, strings.TrimSpace(string(token)))}
	fmt.Fprintf(g.Stdout, "WeChat is simulated at %s; %d sends of the last 30 days come first\n", sim.URL(), len(scenario.History))
	err = c.play(g.ctx, sim, scenario, op, g.Stdout)
	if g.ctx.Err() != nil {
		return nil // told to end
	}
	return err
}

func (c *simulateCmd) simulator(g *globals, scenario wechattest.Scenario) (*wechattest.Simulator, error) {
	level := g.LogLevel
	if level == "" {
		level = "error"
	}
	logger, err := daemon.NewLogger(g.Stderr, "text", level)
	if err != nil {
		return nil, &usageError{err}
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, err
	}
	mix := wechattest.Mix{Seed: c.Seed}
	sim, err := wechattest.New(wechattest.Config{
		Seed: c.Seed, Accounts: scenario.Accounts, Components: scenario.Components, Scale: c.Scale,
		Logger: logger, Listener: listener, Plans: mix.Plan,
	})
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return sim, nil
}

// play makes the history, the play of the demo, and then send after send.
func (c *simulateCmd) play(ctx context.Context, sim *wechattest.Simulator, scenario wechattest.Scenario, op wechattest.Operator, out io.Writer) error {
	if err := sim.PlayHistory(ctx, scenario, op); err != nil {
		return err
	}
	fmt.Fprintln(out, "now live")
	if err := sim.Play(ctx, scenario, op); err != nil {
		return err
	}
	fmt.Fprintf(out, "the play is over; a send every %s from now on\n", c.Every)
	pause := time.NewTicker(c.Every)
	defer pause.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
		}
		if err := sendOne(ctx, sim, scenario.Accounts[n%len(scenario.Accounts)], op); err != nil {
			return err
		}
	}
}

// sendOne sends to the account's first tag, which unlike a send to all is not
// limited to one a day.
func sendOne(ctx context.Context, sim *wechattest.Simulator, a wechattest.Account, op wechattest.Operator) error {
	const audienceTag = 8
	receipt, err := sim.Submit(a.AppID, wechattest.Send{Audience: wechattest.Tag(audienceTag), MsgType: "mpnews", Label: "滚动推送"})
	if refused := (*wechattest.APIError)(nil); errors.As(err, &refused) {
		return nil // WeChat says no, as it does in life
	}
	if err != nil || receipt.Record == wechattest.Unrecorded {
		return err
	}
	return op.Record(ctx, []wechattest.Receipt{receipt})
}

// recordAt tells the record API what was sent, and waits for it if it is away.
func recordAt(address, token string) func(context.Context, []wechattest.Receipt) error {
	api := newRecordAPI(address, token, recordPatience)
	api.met = true // it may start after us
	return func(ctx context.Context, receipts []wechattest.Receipt) error {
		records := make([][]byte, len(receipts))
		for i, r := range receipts {
			b, err := json.Marshal(r)
			if err != nil {
				return err
			}
			records[i] = b
		}
		rejected, err := api.send(ctx, records)
		for i, why := range rejected {
			if why != "" {
				err = errors.Join(err, fmt.Errorf("record of message %d rejected: %s", receipts[i].MsgID, why))
			}
		}
		return err
	}
}

// writeSimulated writes accounts as files of accounts_dir have them.
func writeSimulated(w io.Writer, accounts []wechattest.Account) error {
	var b strings.Builder
	b.WriteString("# The accounts of the simulated WeChat, made by `qunfa simulate --accounts`.\n# Nobody has such accounts: what looks like secrets here protects nothing.\n")
	for _, a := range accounts {
		fmt.Fprintf(&b, "- appid: %s\n  original_id: %s\n  name: %s\n  tokens: [%s]\n", a.AppID, a.OriginalID, a.Name, a.Token)
		if a.Mode != wechattest.Plain {
			fmt.Fprintf(&b, "  aes_keys: [%s]\n", a.AESKey)
		}
		fmt.Fprintf(&b, "  app_secret: %q\n", a.Secret)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
