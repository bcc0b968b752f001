package grafana

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qunfa/internal/embedded/embeddedtest"
	"qunfa/test/grafana/dashboards"
)

var update = flag.Bool("update", false, "write the dashboards instead of comparing them")

func TestMain(m *testing.M) { embeddedtest.Main(m) }

const (
	root  = "../.." // of the project
	files = root + "/grafana/dashboards"
)

// TestFilesAreMade compares the committed files with what is made.
func TestFilesAreMade(t *testing.T) {
	made := map[string]bool{}
	for _, d := range dashboards.All() {
		path := filepath.Join(files, strings.TrimPrefix(d.UID, "qunfa-")+".json")
		made[path] = true
		want, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if have, err := os.ReadFile(path); err != nil || string(have) != string(want) {
			t.Errorf("%s is not what is made; run: go test ./test/grafana -update (%v)", path, err)
		}
	}
	for _, path := range jsonFiles(t) {
		if !made[path] {
			t.Errorf("%s is made by nothing", path)
		}
	}
}

func jsonFiles(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(files, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// load reads the dashboards as Grafana would. Keys that the model does not know
// are an error, so that the tests below see everything.
func load(t *testing.T) []*dashboards.Dashboard {
	t.Helper()
	var all []*dashboards.Dashboard
	for _, path := range jsonFiles(t) {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboards.Dashboard
		dec := json.NewDecoder(f)
		dec.DisallowUnknownFields()
		if err := dec.Decode(&d); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		all = append(all, &d)
	}
	if len(all) != 6 {
		t.Fatalf("%d dashboards, want 6", len(all))
	}
	return all
}
