package kafka

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority is a certificate authority for the tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // PEM
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key, writePEM(t, "CERTIFICATE", der)}
}

// issue returns a certificate for the name, and the files that hold it and its key.
func (a authority) issue(t testing.TB, name string) (cert tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		tmpl.IPAddresses = []net.IP{ip}
	} else {
		tmpl.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = writePEM(t, "CERTIFICATE", der), writePEM(t, "PRIVATE KEY", keyDER)
	cert, err = tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return cert, certFile, keyFile
}

func writePEM(t testing.TB, kind string, der []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), strings.ReplaceAll(kind, " ", "")+".pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestTLSConfig(t *testing.T) {
	ca := newAuthority(t)
	_, cert, key := ca.issue(t, "client")
	_, _, otherKey := ca.issue(t, "other")
	cfg, err := TLSConfig(TLSFiles{CAFile: ca.file, CertFile: cert, KeyFile: key, ServerName: "kafka.example"})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.RootCAs == nil || len(cfg.Certificates) != 1 || cfg.ServerName != "kafka.example" || cfg.MinVersion < tls.VersionTLS12 {
		t.Errorf("got %+v", cfg)
	}
	if _, err := TLSConfig(TLSFiles{}); err != nil {
		t.Errorf("the system's authorities: %v", err)
	}
	for name, bad := range map[string]struct {
		files TLSFiles
		says  string
	}{
		"missing ca":        {TLSFiles{CAFile: "nowhere.pem"}, "nowhere.pem"},
		"ca without pem":    {TLSFiles{CAFile: "security_test.go"}, "no certificate"},
		"cert without key":  {TLSFiles{CertFile: cert}, "needs its key"},
		"key without cert":  {TLSFiles{KeyFile: key}, "needs its key"},
		"key of another":    {TLSFiles{CertFile: cert, KeyFile: otherKey}, "client certificate"},
		"key file missing":  {TLSFiles{CertFile: cert, KeyFile: "nowhere.pem"}, "nowhere.pem"},
		"cert and key same": {TLSFiles{CertFile: key, KeyFile: key}, "client certificate"},
	} {
		if _, err := TLSConfig(bad.files); err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%s: %v, want something about %q", name, err, bad.says)
		}
	}
}

func TestSASLMechanism(t *testing.T) {
	for name, want := range map[string]string{"plain": "PLAIN", "SCRAM-SHA-256": "SCRAM-SHA-256", "scram-sha-512": "SCRAM-SHA-512"} {
		m, err := SASLMechanism(name, "user", "pass")
		if err != nil || m.Name() != want {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
	if m, err := SASLMechanism("", "", ""); m != nil || err != nil {
		t.Errorf("none: %v, %v", m, err)
	}
	const secret = "hunter2\x00\u00ad\U000e0001"
	for _, bad := range [][3]string{
		{"gssapi", "user", secret}, {"", "user", secret}, {"", "", secret}, {"plain", "", secret}, {"plain", "user", ""},
		{"scram-sha-256", "user", secret}, {"scram-sha-512", "user", secret},
	} {
		m, err := SASLMechanism(bad[0], bad[1], bad[2])
		if err == nil {
			t.Errorf("%q: accepted as %v", bad, m)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}
