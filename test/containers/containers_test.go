//go:build containers

package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
)

// TestServers runs everything on the current Kafka, and what depends most on it
// on the last version before 4.
func TestServers(t *testing.T) {
	ctx := t.Context()
	ch := startClickHouse(ctx, t)
	for _, v := range []struct {
		name     string
		image    string
		each     bool     // take every right away
		packages []string // with tests that run on any broker and any ClickHouse
	}{
		{"Kafka", kafkaImage, true, []string{"./internal/kafka", "./internal/clickhouse", "./test/pipeline"}},
		{"OldKafka", oldKafkaImage, false, []string{"./test/pipeline"}},
	} {
		t.Run(v.name, func(t *testing.T) {
			b := startKafka(ctx, t, v.image)
			t.Run("Logins", func(t *testing.T) { testLogins(t, b) })
			t.Run("Refusals", func(t *testing.T) { testRefusals(t, b) })
			t.Run("Rights", func(t *testing.T) { testRights(t, b, ch, v.each) })
			t.Run("Integration", func(t *testing.T) { testIntegration(t, b, ch, v.packages) })
		})
	}
}

// testIntegration runs the tests of packages against the servers, with TLS and a
// login, which the environment tells them.
func testIntegration(t *testing.T, b *broker, ch clickHouse, packages []string) {
	s := ch.secured(t, b.authority)
	results := runTests(t.Context(), t, packages,
		"QUNFA_TEST_KAFKA="+b.addrs[secure], "QUNFA_TEST_KAFKA_TLS_CA_FILE="+b.authority.file,
		"QUNFA_TEST_KAFKA_SASL_MECHANISM=scram-sha-512", "QUNFA_TEST_KAFKA_SASL_USERNAME=admin", "QUNFA_TEST_KAFKA_SASL_PASSWORD="+password,
		fmt.Sprintf("QUNFA_TEST_CLICKHOUSE=clickhouse://%s:%s@%s?secure=true&ca_file=%s", s.user, s.password, s.addr, b.authority.file))
	for _, p := range packages {
		name := "qunfa" + p[1:]
		r := results[name]
		if r == nil || r.passed == 0 {
			t.Errorf("%s: no test has passed", name)
			continue
		}
		if r.skipped > 0 { // silence would look like success
			t.Errorf("%s: %d tests were skipped", name, r.skipped)
		}
		t.Logf("%s: %d tests passed", name, r.passed)
	}
}

// result counts the tests of a package, subtests included.
type result struct{ passed, failed, skipped int }

// event is a line of `go test -json`.
type event struct {
	Action, Package, Test, Output string
}

// runTests runs the packages with the environment, and fails the test if it
// fails. What failed, and how each package ended, is shown as it comes.
func runTests(ctx context.Context, t *testing.T, packages []string, env ...string) map[string]*result {
	t.Helper()
	// One package after the other: they share the servers.
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json", "-count=1", "-p=1", "-timeout=12m"}, packages...)...)
	cmd.Dir, cmd.Stderr = "../..", os.Stderr
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	results, err := follow(out)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Errorf("go test: %v", err)
	}
	return results
}

// follow reads events to the end.
func follow(r io.Reader) (map[string]*result, error) {
	results, output := map[string]*result{}, map[string]string{}
	for dec := json.NewDecoder(r); ; {
		var e event
		err := dec.Decode(&e)
		if errors.Is(err, io.EOF) {
			return results, nil
		}
		if err != nil {
			return results, fmt.Errorf("read the events of go test: %w", err)
		}
		if results[e.Package] == nil {
			results[e.Package] = &result{}
		}
		results[e.Package].add(e, output)
	}
}

func (r *result) add(e event, output map[string]string) {
	name := e.Package + " " + e.Test
	switch {
	case e.Action == "output" && e.Test == "", e.Action == "build-output":
		fmt.Print(e.Output)
	case e.Action == "output":
		output[name] += e.Output
	case e.Test == "":
	case e.Action == "fail":
		r.failed++
		fmt.Print(output[name])
	case e.Action == "pass":
		r.passed++
	case e.Action == "skip":
		r.skipped++
		fmt.Print(output[name])
	}
	if e.Action == "pass" || e.Action == "fail" || e.Action == "skip" {
		delete(output, name)
	}
}
