package embeddedtest

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"qunfa/internal/embedded"
	"qunfa/internal/embedded/engineproto"
)

// Server is a ClickHouse for tests. Its user may do everything.
type Server struct {
	Addr     string // host:port of the native protocol
	Username string
	Password string
}

// ClickHouse returns the server that the tests of this process share.
func ClickHouse(t testing.TB) *Server {
	t.Helper()
	mustBeInMain(t)
	server, err := shared.engine.get(startServer)
	if err != nil {
		t.Fatalf("no ClickHouse for tests: %v", err)
	}
	return server
}

// Engine is another name for ClickHouse.
func Engine(t testing.TB) *Server { t.Helper(); return ClickHouse(t) }

func startServer() (*Server, error) {
	if given := os.Getenv("QUNFA_TEST_CLICKHOUSE"); given != "" {
		return givenServer(given)
	}
	dir, err := tempDir("clickhouse")
	if err != nil {
		return nil, err
	}
	exe, err := LocalEngine()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	engine, err := embedded.StartEngine(ctx, embedded.EngineConfig{
		Dir: dir, Logger: logger(), AllDatabases: true, LocalEngine: exe,
	})
	if err != nil {
		return nil, err
	}
	atEnd(engine.Close)
	return &Server{Addr: engine.Addr(), Username: engine.Username(), Password: engine.Password()}, nil
}

// givenServer returns the server that the environment names. Where it wants TLS,
// a tunnel does that for the tests, some of which need a wire that they can cut.
func givenServer(given string) (*Server, error) {
	server, secure, err := parseServer(given)
	if err != nil || secure == nil {
		return server, err
	}
	t, err := newTunnel(server.Addr, secure)
	if err != nil {
		return nil, err
	}
	atEnd(t.Close)
	server.Addr = t.Addr()
	return server, nil
}

// parseServer reads clickhouse://user:password@host:port, to which ?secure=true
// and &ca_file=FILE may be added. Its errors do not repeat the password.
func parseServer(given string) (*Server, *tls.Config, error) {
	u, err := url.Parse(given)
	if err != nil || u.Scheme != "clickhouse" || u.Host == "" || u.User == nil {
		return nil, nil, errors.New("QUNFA_TEST_CLICKHOUSE is not clickhouse://user:password@host:port")
	}
	password, _ := u.User.Password()
	server := &Server{Addr: u.Host, Username: u.User.Username(), Password: password}
	q := u.Query()
	if q.Get("secure") != "true" {
		return server, nil, nil
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	if file := q.Get("ca_file"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, fmt.Errorf("QUNFA_TEST_CLICKHOUSE: ca_file: %w", err)
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("QUNFA_TEST_CLICKHOUSE: ca_file %s holds no certificate", file)
		}
	}
	return server, secure, nil
}

// Options are those of clickhouse-go for a database of the server, which must
// exist; empty: default.
func (s *Server) Options(database string) *clickhouse.Options {
	return &clickhouse.Options{
		Addr: []string{s.Addr},
		Auth: clickhouse.Auth{Database: database, Username: s.Username, Password: s.Password},
	}
}

// Database returns a name for a database that nothing else uses. The test
// creates it; it is dropped when the test ends.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text()[:12])
	t.Cleanup(func() { s.drop(t, name) })
	return name
}

func (s *Server) drop(t testing.TB, name string) {
	conn, err := clickhouse.Open(s.Options(""))
	if err != nil {
		t.Errorf("cannot drop database %s: %v", name, err)
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" SYNC"); err != nil {
		t.Errorf("cannot drop database %s: %v", name, err)
	}
}

// LocalEngine builds cmd/localengine, once per process, and returns the path
// of the executable.
func LocalEngine() (string, error) {
	return shared.localExe.get(func() (string, error) {
		if given := os.Getenv("QUNFA_LOCALENGINE"); given != "" {
			return given, nil
		}
		dir, err := tempDir("bin")
		if err != nil {
			return "", err
		}
		exe := filepath.Join(dir, engineproto.Name)
		build := exec.Command("go", "build", "-o", exe, "qunfa/cmd/localengine")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("cannot build %s: %w\n%s", engineproto.Name, err, output)
		}
		return exe, nil
	})
}

// logger shows warnings and worse of what runs beside the tests.
func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
