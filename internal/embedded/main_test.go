package embedded_test

import (
	"os"
	"testing"

	"qunfa/internal/embedded/embeddedtest"
)

// helpers are what this test binary does instead of running tests when a test
// started it as another process, to be killed.
var helpers = map[string]func(){}

const helperVariable = "QUNFA_EMBEDDED_TEST_HELPER"

func TestMain(m *testing.M) {
	if name := os.Getenv(helperVariable); name != "" {
		helpers[name]()
		return
	}
	embeddedtest.Main(m)
}
