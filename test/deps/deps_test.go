// Package deps states which package may import which, and why. The rules keep
// the domain free of technology, the adapters free of each other, and the
// services free of what is for one machine or for tests.
package deps

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "qunfa/"

// edges lists, for every package, the packages of this module that it may
// import, and why no others. A package that is missing here fails the test: it
// has to be thought about once.
var edges = map[string]struct {
	may []string
	why string
}{
	"schemas":                       {nil, "files, embedded"},
	"internal/events":               {nil, "the domain must be understandable, and testable, without anything around it"},
	"internal/sample":               {nil, "a log that repeats itself is shortened in the same way everywhere"},
	"internal/daemon":               {nil, "running a process has nothing to do with what it does"},
	"internal/wechat":               {nil, "WeChat's protocols are WeChat's: what we make of them is for others"},
	"internal/wechat/wechattest":    {nil, "a simulator that shared code with wechat would share its misreadings"},
	"internal/config":               {[]string{"internal/events"}, "knows the form of values, not who uses them"},
	"internal/kafka":                {[]string{"internal/events", "internal/sample"}, "an adapter: knows the domain, and no other adapter"},
	"internal/clickhouse":           {[]string{"internal/events", "schemas"}, "an adapter: knows the domain, and no other adapter"},
	"internal/ingest":               {[]string{"internal/events", "internal/sample", "internal/wechat", "internal/ingest/submission"}, "says what it needs of a log as an interface"},
	"internal/ingest/submission":    {[]string{"internal/events"}, "the form of a submission, shared by the record API and qunfa record"},
	"internal/spool":                {[]string{"internal/events"}, "stands before any log: says what it needs of one as an interface"},
	"internal/sink":                 {[]string{"internal/events"}, "says what it needs of a log and of a store as interfaces"},
	"internal/reconcile":            {[]string{"internal/events", "internal/wechat"}, "says what it needs of a log and of a store as interfaces"},
	"internal/embedded":             {[]string{"internal/embedded/engineproto"}, "broker and engine as such: what they are used for is local's business"},
	"internal/embedded/engineproto": {nil, "what the engine's two processes agree on; the child must stay small"},
	"internal/embedded/embeddedtest": {[]string{"internal/embedded", "internal/embedded/engineproto"},
		"servers for tests of any package, so it may need none of them"},
	"internal/app": {[]string{"internal/clickhouse", "internal/config", "internal/daemon", "internal/events", "internal/ingest",
		"internal/ingest/submission", "internal/kafka", "internal/reconcile", "internal/sink", "internal/spool", "internal/wechat"}, "the one place where services meet adapters"},
	"internal/doctor": {[]string{"internal/clickhouse", "internal/config", "internal/daemon", "internal/events", "internal/kafka", "internal/wechat"},
		"looks at each part as an operator would: through its adapter, never through the service that it judges"},
	"internal/local": {[]string{"internal/app", "internal/clickhouse", "internal/config", "internal/embedded", "internal/kafka"},
		"the services on an embedded broker and engine"},
	"internal/demo": {[]string{"internal/app", "internal/clickhouse", "internal/config", "internal/daemon", "internal/local", "internal/wechat/wechattest"},
		"a local stack and a simulator in front of it"},
	"cmd/ingest":      {[]string{"internal/app"}, "a thin main"},
	"cmd/sink":        {[]string{"internal/app"}, "a thin main"},
	"cmd/reconcile":   {[]string{"internal/app"}, "a thin main"},
	"cmd/localengine": {[]string{"internal/embedded/engineproto"}, "loads a foreign library, so nothing of ours is in its process"},
	"cmd/qunfa": {[]string{"internal/app", "internal/clickhouse", "internal/config", "internal/daemon", "internal/demo", "internal/doctor", "internal/embedded", "internal/events",
		"internal/ingest/submission", "internal/kafka", "internal/local", "internal/reconcile", "internal/sink", "internal/wechat",
		"internal/wechat/wechattest", "schemas"},
		"the operator's command uses everything but the services themselves, which app makes"},
}

// forbidden lists what must not be in a program, however it would get there.
var forbidden = []struct {
	programs []string
	packages []string // prefixes of import paths
	why      string
}{
	{[]string{"cmd/ingest", "cmd/sink", "cmd/reconcile"}, []string{
		module + "internal/embedded", module + "internal/local", module + "internal/demo", module + "internal/wechat/wechattest",
		"github.com/ebitengine/purego", "github.com/twmb/franz-go", "github.com/testcontainers", "testing",
	}, "the services of production carry no broker that is a fake, no engine and no simulator"},
	{[]string{"cmd/qunfa"}, []string{"github.com/ebitengine/purego", "github.com/testcontainers", module + "internal/embedded/embeddedtest"},
		"purego makes a program dynamic: it is in localengine alone, so that qunfa runs anywhere"},
	{[]string{"cmd/localengine"}, []string{"github.com/twmb/franz-go", "github.com/segmentio/kafka-go", "github.com/ClickHouse/clickhouse-go"},
		"the engine's process is small"},
}

// testsOnly may be imported by tests, and by nothing that is shipped.
var testsOnly = []string{module + "internal/embedded/embeddedtest", "github.com/testcontainers", "go.uber.org/goleak", "pgregory.net/rapid", "github.com/google/go-cmp", "k8s.io", "sigs.k8s.io"}

// testHelpers are shipped with nothing, although they are no tests themselves.
var testHelpers = []string{"internal/embedded/embeddedtest"}

// pkg is what `go list` says of a package.
type pkg struct {
	ImportPath                               string
	Imports, Deps, TestImports, XTestImports []string
}

func (p pkg) name() string { return strings.TrimPrefix(p.ImportPath, module) }

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps,TestImports,XTestImports", module+"...")
	cmd.Dir = "../.."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// isTest tells packages that hold nothing but tests.
func (p pkg) isTest() bool { return strings.HasPrefix(p.name(), "test/") }

func TestEdges(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range list(t) {
		if p.isTest() {
			continue
		}
		seen[p.name()] = true
		rule, ok := edges[p.name()]
		if !ok {
			t.Errorf("%s is not in the list: say what it may import, and why", p.name())
			continue
		}
		for _, i := range p.Imports {
			if name, ours := strings.CutPrefix(i, module); ours && !slices.Contains(rule.may, name) {
				t.Errorf("%s must not import %s: %s", p.name(), name, rule.why)
			}
		}
	}
	for name := range edges {
		if !seen[name] {
			t.Errorf("%s is in the list, but does not exist", name)
		}
	}
}

// A domain that reads the clock of a library, or its bytes, is not ours any more.
func TestDomainNeedsNothing(t *testing.T) {
	for _, p := range list(t) {
		if p.name() != "internal/events" && p.name() != "internal/wechat/wechattest" {
			continue
		}
		for _, i := range p.Imports {
			if first, _, _ := strings.Cut(i, "/"); strings.Contains(first, ".") {
				t.Errorf("%s must do with the standard library: it imports %s", p.name(), i)
			}
		}
	}
}

// The tests of wechattest, too, must not lean on wechat.
func TestSimulatorIsItsOwn(t *testing.T) {
	for _, p := range list(t) {
		if p.name() != "internal/wechat/wechattest" {
			continue
		}
		for _, i := range slices.Concat(p.TestImports, p.XTestImports) {
			if strings.HasPrefix(i, module) && i != p.ImportPath {
				t.Errorf("the tests of %s must not import %s: what reads its pushes there has to be another reading", p.name(), i)
			}
		}
	}
}

func TestPrograms(t *testing.T) {
	pkgs := map[string]pkg{}
	for _, p := range list(t) {
		pkgs[p.name()] = p
	}
	for _, rule := range forbidden {
		for _, program := range rule.programs {
			p, ok := pkgs[program]
			if !ok {
				t.Errorf("there is no program %s", program)
			}
			for _, dep := range p.Deps {
				if within(dep, rule.packages) {
					t.Errorf("%s must not contain %s: %s", program, dep, rule.why)
				}
			}
		}
	}
}

func TestTestsOnly(t *testing.T) {
	for _, p := range list(t) {
		if p.isTest() || slices.Contains(testHelpers, p.name()) {
			continue
		}
		for _, i := range p.Imports {
			if within(i, testsOnly) {
				t.Errorf("%s imports %s, which is for tests", p.name(), i)
			}
		}
	}
}

func within(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool {
		return path == prefix || strings.HasPrefix(path, prefix+"/")
	})
}
