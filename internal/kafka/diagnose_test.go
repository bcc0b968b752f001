package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Every situation is real but for the broker, which is kfake. What Produce says
// in them differs from the truth: that is what Diagnose is for.
func TestDiagnose(t *testing.T) {
	ca := newAuthority(t)
	other := newAuthority(t)
	serverCert, _, _ := ca.issue(t, "127.0.0.1")
	misnamed, _, _ := ca.issue(t, "elsewhere.example")
	server := func(cert tls.Certificate) kfake.Opt {
		return kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}})
	}
	mutual := kfake.TLS(&tls.Config{Certificates: []tls.Certificate{serverCert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool(ca)})
	users := []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("PLAIN", "app", password), kfake.Superuser("SCRAM-SHA-256", "app", password)}
	trust := trustOnly(ca)
	login := func(kind string) func(*Config) {
		return func(cfg *Config) { cfg.SASL = mechanism(t, kind) }
	}
	for name, test := range map[string]struct {
		broker []kfake.Opt
		answer *kerr.Error // to a login, where kfake only hangs up
		client []func(*Config)
		says   string // "" all is well
	}{
		"plain text":                 {nil, nil, nil, ""},
		"TLS":                        {[]kfake.Opt{server(serverCert)}, nil, []func(*Config){trust}, ""},
		"PLAIN":                      {users, nil, []func(*Config){login("plain")}, ""},
		"SCRAM":                      {users, nil, []func(*Config){login("scram-sha-256")}, ""},
		"SCRAM over TLS":             {append(users, server(serverCert)), nil, []func(*Config){trust, login("scram-sha-256")}, ""},
		"wrong password, PLAIN":      {users, kerr.SaslAuthenticationFailed, []func(*Config){login("plain")}, "user name or password"},
		"wrong password, SCRAM":      {users, kerr.SaslAuthenticationFailed, []func(*Config){login("scram-sha-256")}, "user name or password"},
		"mechanism not offered":      {users, kerr.UnsupportedSaslMechanism, []func(*Config){login("plain")}, "SASL mechanism"},
		"SASL on a plain port":       {users, kerr.IllegalSaslState, []func(*Config){login("plain")}, "does not use SASL"},
		"no SASL on a SASL port":     {users, nil, nil, "need TLS or SASL"},
		"wrong authority":            {[]kfake.Opt{server(serverCert)}, nil, []func(*Config){trustOnly(other)}, "ca_file"},
		"wrong name":                 {[]kfake.Opt{server(misnamed)}, nil, []func(*Config){trust}, "another name"},
		"no TLS on a TLS port":       {[]kfake.Opt{server(serverCert)}, nil, nil, "TLS"},
		"TLS on a plain port":        {nil, nil, []func(*Config){trust, hangingUp}, "TLS"},
		"no client certificate":      {[]kfake.Opt{mutual}, nil, []func(*Config){trust}, "our certificate"},
		"unknown client certificate": {[]kfake.Opt{mutual}, nil, []func(*Config){trust, present(t, other)}, "our certificate"},
		"nothing listens":            {nil, nil, []func(*Config){refusing}, "nothing listens"},
		"broker silent":              {nil, nil, []func(*Config){silent}, "did not answer in time"},
	} {
		t.Run(name, func(t *testing.T) {
			c := tcpBroker(t, append(test.broker, kfake.SeedTopics(1, "events"))...)
			if test.answer != nil {
				c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLHandshake, kmsg.SASLAuthenticate}, TopLevel: true, Err: test.answer, Count: -1})
			}
			client, _ := c.client(t, test.client...)
			p := producer(t, client, ProducerConfig{Topic: "events", Partitions: 1}, nil)
			patience := 500 * time.Millisecond
			if test.says == "" {
				patience = 10 * time.Second
			}
			_, err := p.Produce(timeout(t, patience), record("wx1", 0))
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("the record was taken")
			}
			d := client.Diagnose(timeout(t, 5*time.Second), err)
			var diagnosis *Diagnosis
			if !errors.As(d, &diagnosis) || !strings.Contains(diagnosis.Advice, test.says) {
				t.Errorf("Produce: %v\ndiagnosis: %v\nwant advice about %q", err, d, test.says)
			}
			if strings.Contains(d.Error()+err.Error(), password) {
				t.Errorf("an error shows the password: %v, %v", err, d)
			}
		})
	}
}

const password = "pa55word"

func pool(a authority) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func trustOnly(a authority) func(*Config) {
	return func(cfg *Config) { cfg.TLS = &tls.Config{RootCAs: pool(a)} }
}

func present(t *testing.T, a authority) func(*Config) {
	cert, _, _ := a.issue(t, "client")
	return func(cfg *Config) { cfg.TLS.Certificates = []tls.Certificate{cert} }
}

func mechanism(t *testing.T, kind string) sasl.Mechanism {
	m, err := SASLMechanism(kind, "app", password)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// hangingUp is a broker that gets a handshake where it expects a request; kfake
// would wait for the rest of a request of 369 MB.
func hangingUp(cfg *Config) {
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Read(make([]byte, 512))
			theirs.Close()
		}()
		return ours, nil
	}
}

func refusing(cfg *Config) {
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
}

func silent(cfg *Config) {
	cfg.DialTimeout = 300 * time.Millisecond
	cfg.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
}

// ListOffsets tells a topic that we may not use from one that does not exist.
func TestDiagnoseTopics(t *testing.T) {
	c := fakeBrokers(t, 1)
	topic := c.topic(t, 1)
	client, _ := c.client(t, func(cfg *Config) { cfg.Topics = []string{topic} })
	ctx := timeout(t, 10*time.Second)
	h := c.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: topic, Err: kerr.TopicAuthorizationFailed, Count: -1})
	if err := client.Diagnose(ctx, ErrNoTopic); !strings.Contains(err.Error(), "may not use the topic") {
		t.Errorf("got %v", err)
	}
	h.Remove()
	if err := client.Diagnose(ctx, ErrNoTopic); !strings.Contains(err.Error(), "does not exist") || !errors.Is(err, ErrNoTopic) {
		t.Errorf("got %v", err)
	}
	if err := client.Diagnose(ctx, nil); err != nil {
		t.Errorf("no error: %v", err)
	}
	odd := errors.New("odd")
	if err := client.Diagnose(ctx, odd); err != odd {
		t.Errorf("an error of another kind: %v", err)
	}
}
