package wechattest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Simulator plays WeChat for a set of accounts. It is an [http.Handler] of the
// API and pushes callbacks by itself. All methods may be called concurrently.
type Simulator struct {
	cfg      Config
	mux      *http.ServeMux
	listener net.Listener
	server   *http.Server
	serving  sync.WaitGroup
	delivery *deliverer

	mu         sync.Mutex
	accounts   map[string]*account
	order      []string // appids as configured
	components map[string]*Component
	tokens     map[string]*token
	requests   int64 // for the rid of errors
	pushes     []*push
}

// account is an account's state, guarded by the simulator's lock.
type account struct {
	Account
	wholeIDs int64 // msg_ids given to sends to all and from the console
	listIDs  int64 // msg_ids given to sends to tags and openid lists
	ordinals int64 // submissions that got a plan
	pushed   int64 // pushes made
	verified int64 // verifications of the callback URL

	messages map[int64]*message
	sent     []*message        // in the order of submission
	clients  map[string]client // clientmsgid or digest, to the send it stands for
	arranged []Plan
	foreseen map[string]Plan // by clientmsgid
	denied   bool            // the caller's address is not on the IP allow-list
	faults   []*Fault
	usage    usage
	stable   stableToken
	plainNo  int64 // tokens minted by cgi-bin/token
}

// New checks the configuration and binds the API's listener, so that [Simulator.URL]
// is known; nothing runs before [Simulator.Start]. The handler works without it.
func New(cfg Config) (*Simulator, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.Listener == nil {
		if cfg.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("wechattest: listen for the API: %w", err)
		}
	}
	s := &Simulator{
		cfg:        cfg,
		listener:   cfg.Listener,
		accounts:   make(map[string]*account),
		components: make(map[string]*Component),
		tokens:     make(map[string]*token),
	}
	for _, a := range cfg.Accounts {
		s.order = append(s.order, a.AppID)
		s.accounts[a.AppID] = &account{
			Account:  a,
			messages: make(map[int64]*message),
			clients:  make(map[string]client),
			foreseen: make(map[string]Plan),
		}
	}
	for _, c := range cfg.Components {
		s.components[c.AppID] = &c
	}
	s.mux = s.routes()
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	s.delivery = newDeliverer(cfg, s.attempt)
	return s, nil
}

// Start serves the API and begins to push. Call it once.
func (s *Simulator) Start() {
	s.delivery.start()
	s.serving.Go(func() {
		if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Logger.Error("simulator stopped serving the API", "error", err)
		}
	})
}

// Close stops pushing, ends the attempts under way, closes the API and waits
// for everything that [Simulator.Start] began. Pushes not delivered by then stay so.
func (s *Simulator) Close() error {
	s.delivery.stop()
	err := s.server.Close()
	// Without Start the server never knew its listener.
	if e := s.listener.Close(); e != nil && !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	s.serving.Wait()
	return err
}

// Drain waits until every push is delivered or given up, those held back by
// [Plan.Held] excepted.
func (s *Simulator) Drain(ctx context.Context) error {
	if err := s.delivery.drain(ctx); err != nil {
		return fmt.Errorf("wechattest: drain: %d pushes are not delivered yet: %w", s.delivery.outstanding(), err)
	}
	return nil
}

// URL is the base of the API: http://127.0.0.1:port, without a slash at the end.
func (s *Simulator) URL() string { return "http://" + s.listener.Addr().String() }

// Accounts returns the accounts as configured, with what was drawn for them.
func (s *Simulator) Accounts() []Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Account, 0, len(s.order))
	for _, appid := range s.order {
		all = append(all, s.accounts[appid].Account)
	}
	return all
}

// Components returns the platforms as configured, with what was drawn for them.
func (s *Simulator) Components() []Component {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Component, 0, len(s.components))
	for _, c := range s.cfg.Components {
		all = append(all, *s.components[c.AppID])
	}
	return all
}

// Update changes an account, as its operator would in the console: the callback
// URL, a new token or key, another mode. Attempts from then on use what it left.
// The appid stays.
func (s *Simulator) Update(appid string, change func(*Account)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.account(appid)
	if err != nil {
		return err
	}
	next := a.Account
	change(&next)
	next.AppID = appid
	if err := next.check(); err != nil {
		return err
	}
	a.Account = next
	return nil
}

// PointAt sends the pushes of every account to a receiver: base/callback/{appid},
// and those of platforms to base/platform/{component}/callback/$APPID$.
// Accounts that only their platform serves get no URL of their own.
func (s *Simulator) PointAt(base string) {
	base = strings.TrimSuffix(base, "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	for appid, a := range s.accounts {
		if a.Component == "" || a.CallbackURL != "" {
			a.CallbackURL = base + "/callback/" + appid
		}
	}
	for appid, c := range s.components {
		c.URL = base + "/platform/" + appid + "/callback/$APPID$"
	}
}

// account finds an account. The lock is held.
func (s *Simulator) account(appid string) (*account, error) {
	a, ok := s.accounts[appid]
	if !ok {
		return nil, fmt.Errorf("wechattest: no account %s", appid)
	}
	return a, nil
}

// scaled turns one of WeChat's delays into ours.
func (c Config) scaled(d time.Duration) time.Duration { return time.Duration(float64(d) / c.Scale) }

// Stats tell how far the play is.
type Stats struct {
	Messages  int   // accepted sends
	Due       int   // pushes to be delivered, now or later
	Held      int   // pushes kept back
	Delivered int   // pushes answered with success
	GivenUp   int   // pushes given up
	Attempts  int   // tries to deliver
	Polls     int64 // calls of mass/get about messages that exist
}

// Stats counts messages and pushes as of now.
func (s *Simulator) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n Stats
	for _, a := range s.accounts {
		n.Messages += len(a.sent)
		for _, m := range a.sent {
			n.Polls += m.polls
		}
	}
	for _, p := range s.pushes {
		n.Attempts += len(p.attempts)
		switch p.state {
		case PushDue:
			n.Due++
		case PushHeld:
			n.Held++
		case PushDelivered:
			n.Delivered++
		case PushGivenUp:
			n.GivenUp++
		case PushNever:
		}
	}
	return n
}
