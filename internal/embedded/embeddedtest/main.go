package embeddedtest

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// shared is what the tests of this process share. It is a variable of the
// package because tests have nothing else in common.
var shared struct {
	mu       sync.Mutex
	inMain   bool
	cleanups []func() error

	engine   once[*Server]
	kafka    once[*Brokers]
	localExe once[string]
}

// once is a value that is made when it is first asked for. An error is kept
// too: what failed for one test is not tried again for the next hundred.
type once[T any] struct {
	once  sync.Once
	value T
	err   error
}

func (o *once[T]) get(make func() (T, error)) (T, error) {
	o.once.Do(func() { o.value, o.err = make() })
	return o.value, o.err
}

// Main runs the tests of a package, stops what they shared, and exits. It
// fails the run if goroutines are left then, other than those that the options
// ignore.
func Main(m *testing.M, options ...goleak.Option) {
	shared.mu.Lock()
	shared.inMain = true
	shared.mu.Unlock()
	code := m.Run()
	err := cleanUp()
	if err == nil && code == 0 {
		err = goleak.Find(options...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "after the tests:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// atEnd registers something for Main to do, last in first out.
func atEnd(f func() error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.cleanups = append(shared.cleanups, f)
}

func cleanUp() error {
	shared.mu.Lock()
	cleanups := shared.cleanups
	shared.cleanups = nil
	shared.mu.Unlock()
	var errs []error
	for i := len(cleanups) - 1; i >= 0; i-- {
		errs = append(errs, cleanups[i]())
	}
	return errors.Join(errs...)
}

// mustBeInMain fails tests of packages that would leave processes behind.
func mustBeInMain(t testing.TB) {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.inMain {
		t.Fatal("this package needs func TestMain(m *testing.M) { embeddedtest.Main(m) }")
	}
}

// tempDir makes a directory that Main removes.
func tempDir(name string) (string, error) {
	dir, err := os.MkdirTemp("", "qunfa-test-"+name+"-")
	if err != nil {
		return "", err
	}
	atEnd(func() error { return os.RemoveAll(dir) })
	return dir, nil
}
