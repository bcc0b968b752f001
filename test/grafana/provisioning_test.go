package grafana

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// decode reads a file strictly: Grafana ignores a key that it does not know.
func decode(t *testing.T, file string, into any) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "grafana/provisioning", file))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalWithOptions(text, into, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return string(text)
}

func TestDataSources(t *testing.T) {
	var file struct {
		APIVersion  int  `yaml:"apiVersion"`
		Prune       bool `yaml:"prune"`
		DataSources []struct {
			Name, UID, Type, Access, URL string
			Editable                     bool
			JSONData                     map[string]any    `yaml:"jsonData"`
			SecureJSONData               map[string]string `yaml:"secureJsonData"`
		} `yaml:"datasources"`
	}
	text := decode(t, "datasources/qunfa.yaml", &file)
	types := map[string]string{}
	for _, s := range file.DataSources {
		if s.Name == "" || s.Access != "proxy" || s.Editable || types[s.Type] != "" {
			t.Errorf("data source %+v", s)
		}
		types[s.Type] = s.UID
		for key, value := range s.SecureJSONData {
			if !strings.HasPrefix(value, "$") {
				t.Errorf("the %s of %s stands in the file", key, s.Name)
			}
		}
		if s.Type == typeClickHouse && (s.JSONData["defaultDatabase"] != database || s.SecureJSONData["password"] == "") {
			t.Errorf("%v: want the database %s, since queries name none, and a password", s.JSONData, database)
		}
	}
	for _, d := range load(t) {
		if types[source(t, d).Type] == "" {
			t.Errorf("%s needs a %s, which is not provisioned", d.UID, source(t, d).Type)
		}
	}
	readme, err := os.ReadFile(root + "/grafana/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range regexp.MustCompile(`: (\$[A-Z_]+)`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(string(readme), strings.TrimPrefix(v[1], "$")) {
			t.Errorf("grafana/README.md does not name %s", v[1])
		}
	}
}

func TestProvider(t *testing.T) {
	var file struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Folder, Type    string
			FolderUID             string `yaml:"folderUid"`
			DisableDeletion       bool   `yaml:"disableDeletion"`
			AllowUIUpdates        bool   `yaml:"allowUiUpdates"`
			UpdateIntervalSeconds int    `yaml:"updateIntervalSeconds"`
			Options               struct{ Path string }
		}
	}
	decode(t, "dashboards/qunfa.yaml", &file)
	if file.APIVersion != 1 || len(file.Providers) != 1 {
		t.Fatalf("%+v", file)
	}
	if p := file.Providers[0]; p.Type != "file" || p.AllowUIUpdates || p.DisableDeletion || p.Options.Path == "" {
		t.Errorf("provider %+v", p)
	}
}
