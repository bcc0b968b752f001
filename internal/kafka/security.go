package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// TLSFiles names what a TLS connection to brokers needs. All are optional.
type TLSFiles struct {
	CAFile     string // PEM; empty: the system's certificate authorities
	CertFile   string // PEM, with KeyFile: our own certificate, where brokers ask for one
	KeyFile    string // PEM
	ServerName string // name in the brokers' certificates, if it is not their host
}

// TLSConfig reads the files. Errors name the file at fault and never show its content.
func TLSConfig(f TLSFiles) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.ServerName}
	if f.CAFile != "" {
		pem, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, fmt.Errorf("kafka tls: certificate authority: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kafka tls: certificate authority %s: no certificate in PEM form", f.CAFile)
		}
	}
	if (f.CertFile == "") != (f.KeyFile == "") {
		return nil, errors.New("kafka tls: a client certificate needs its key, and a key its certificate")
	}
	if f.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("kafka tls: client certificate %s with key %s: %w", f.CertFile, f.KeyFile, err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

// SASLMechanism returns the mechanism named plain, scram-sha-256 or
// scram-sha-512 (in any case), or nil for an empty name. The password is in no error.
func SASLMechanism(name, username, password string) (sasl.Mechanism, error) {
	kind := strings.ToLower(name)
	if kind == "" {
		if username != "" || password != "" {
			return nil, errors.New("kafka sasl: a user name or password is given but no mechanism: want plain, scram-sha-256 or scram-sha-512")
		}
		return nil, nil
	}
	if username == "" || password == "" {
		return nil, fmt.Errorf("kafka sasl: %s needs a user name and a password", kind)
	}
	switch kind {
	case "plain":
		return plain.Mechanism{Username: username, Password: password}, nil
	case "scram-sha-256":
		return scramMechanism(scram.SHA256, username, password)
	case "scram-sha-512":
		return scramMechanism(scram.SHA512, username, password)
	}
	return nil, fmt.Errorf("kafka sasl: mechanism %q: want plain, scram-sha-256 or scram-sha-512", name)
}

// scramMechanism hides the library's error: it may quote what it was given.
func scramMechanism(algo scram.Algorithm, username, password string) (sasl.Mechanism, error) {
	m, err := scram.Mechanism(algo, username, password)
	if err != nil {
		return nil, fmt.Errorf("kafka sasl: the user name or password holds characters that %s does not allow", algo.Name())
	}
	return m, nil
}
