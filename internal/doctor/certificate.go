package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"time"
)

// expirySoon is when a certificate should have been renewed: ACME clients do it
// 30 days before its end.
const expirySoon = 14 * 24 * time.Hour

// checkCertificate looks at the certificate by itself, since a client only says
// that it is not valid.
func (d *Doctor) checkCertificate(ctx context.Context, r Result, u *url.URL) {
	chain, err := d.handshake(ctx, u)
	if err != nil {
		if _, ok := errors.AsType[*net.DNSError](err); ok {
			r.Unchecked("see callback.address", "the name has no address")
			return
		}
		r.Fail("see whether a reverse proxy with TLS listens on that port and the firewall lets requests in", "no TLS there: %s", cause(err, ""))
		return
	}
	now := d.cfg.Clock()
	leaf := chain[0]
	switch err := d.verify(chain, u.Hostname(), now); {
	case now.After(leaf.NotAfter):
		r.Fail("renew it, and find out why that did not happen by itself", "it expired on %s: WeChat does not call", date(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		r.Fail("compare the clocks of this machine and of who issued it", "it begins on %s only", date(leaf.NotBefore))
	case err != nil:
		explainCertificate(r, chain, err)
	case leaf.NotAfter.Sub(now) < expirySoon:
		r.Warn("see why it was not renewed by itself", "it expires on %s, in %s", date(leaf.NotAfter), days(leaf.NotAfter.Sub(now)))
	default:
		r.OK("issued by %s, good until %s", leaf.Issuer.CommonName, date(leaf.NotAfter))
	}
}

// handshake returns the certificates that the server shows.
func (d *Doctor) handshake(ctx context.Context, u *url.URL) ([]*x509.Certificate, error) {
	port := u.Port()
	if port == "" {
		port = "443"
	}
	raw, err := d.cfg.Network.Dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	// Nothing is sent over this connection: whatever is shown is looked at afterwards.
	conn := tls.Client(raw, &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // see above
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	chain := conn.ConnectionState().PeerCertificates
	if len(chain) == 0 {
		return nil, errors.New("the server shows no certificate")
	}
	return chain, nil
}

func (d *Doctor) verify(chain []*x509.Certificate, host string, now time.Time) error {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: host, Roots: d.cfg.Network.Roots, Intermediates: between, CurrentTime: now})
	return err
}

func explainCertificate(r Result, chain []*x509.Certificate, err error) {
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	leaf := chain[0]
	switch {
	case errors.As(err, &name):
		r.Fail("let the reverse proxy show the certificate of this name", "it is for other names: %s", cause(err, ""))
	case errors.As(err, &unknown) && leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil:
		r.Fail("get one from a public authority, such as Let's Encrypt", "it is signed by itself: WeChat does not trust it")
	case errors.As(err, &unknown) && len(chain) == 1:
		r.Fail("configure the certificate together with those between it and the root (fullchain.pem): some clients get them by themselves, WeChat and this one do not",
			"the chain is not complete: the server shows its own certificate alone, issued by %s", leaf.Issuer.CommonName)
	case errors.As(err, &unknown):
		r.Fail("get one from a public authority, such as Let's Encrypt", "it is issued by %s, whom nobody here trusts", chain[len(chain)-1].Issuer.CommonName)
	default:
		r.Fail("renew it, with the whole chain (fullchain.pem)", "it is not valid: %s", cause(err, ""))
	}
}

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// days writes a duration as people say it.
func days(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < 2*time.Hour:
		return plural(int(d/time.Minute), "minute")
	case d < 48*time.Hour:
		return plural(int(d/time.Hour), "hour")
	}
	return plural(int(d/(24*time.Hour)), "day")
}
