package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

var errFull = errors.New("disk full")

func TestSecretHidesInEveryForm(t *testing.T) {
	s := NewSecret("hunter2")
	wrapped := struct {
		S    Secret
		P    *Secret
		List []Secret
	}{s, &s, []Secret{s}}
	var forms []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%10v"} {
		forms = append(forms, fmt.Sprintf(verb, s), fmt.Sprintf(verb, wrapped), fmt.Sprintf(verb, []Secret{s}))
	}
	js, err := json.Marshal(wrapped)
	if err != nil {
		t.Fatal(err)
	}
	ym, err := yaml.Marshal(wrapped)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("m", "s", s, "w", wrapped, "p", &s)
	}
	forms = append(forms, string(js), string(ym), log.String(), s.String(), s.GoString(), fmt.Sprint(s), fmt.Errorf("x: %v", s).Error())
	for _, f := range forms {
		if strings.Contains(f, "hunter2") || strings.Contains(f, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("shown: %s", f)
		}
	}
	if !strings.Contains(string(js), "<secret>") && !strings.Contains(string(js), `\u003csecret\u003e`) {
		t.Errorf("JSON does not say that there is a secret: %s", js)
	}
	if s.Reveal() != "hunter2" || s.IsZero() || !NewSecret("").IsZero() || !s.Equal(NewSecret("hunter2")) || s.Equal(Secret{}) {
		t.Error("Reveal, IsZero or Equal is wrong")
	}
}

func TestURLHidesPasswordAndQuery(t *testing.T) {
	for raw, want := range map[string]string{
		"https://app.example.com/a":              "https://app.example.com/a",
		"https://u:hunter2@app.example.com:8443": "https://…@app.example.com:8443",
		"http://hunter2@h/p?k=hunter2&x=1":       "http://…@h/p?…",
	} {
		u, err := ParseURL(raw)
		if err != nil {
			t.Fatal(err)
		}
		js, err := json.Marshal(u)
		if err != nil {
			t.Fatal(err)
		}
		if got := u.String(); got != want || u.Raw() != raw {
			t.Errorf("got %q, want %q", got, want)
		}
		if s := fmt.Sprintf("%v %+v %#v %s %s", u, u, u, u, js); strings.Contains(s, "hunter2") {
			t.Errorf("shown: %s", s)
		}
	}
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		name, content string
		mode          os.FileMode
		want, problem string
	}{
		{"newline", "hunter2\r\n", 0o600, "hunter2", ""},
		{"spaces stay", " hunter2 ", 0o640, " hunter2 ", ""},
		{"readable by all", "hunter2", 0o644, "hunter2", "chmod 0600"},
		{"empty", "\n", 0o600, "", "is empty"},
		{"large", strings.Repeat("hunter2", 10_000), 0o600, "", "larger than 64 KiB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(tc.name, " ", "_"))
			if err := os.WriteFile(path, []byte(tc.content), tc.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tc.mode); err != nil {
				t.Fatal(err)
			}
			l := Loader{LookupEnv: func(string) (string, bool) { return path, true }}
			c, warnings, err := l.Parse(filepath.Join(dir, "q.yaml"), []byte("ingest: {api_token_file: \"${X}\"}\n"))
			said := fmt.Sprint(warnings, err)
			if !strings.Contains(said, tc.problem) || tc.problem == "" && (err != nil || len(warnings) > 0) {
				t.Errorf("said %s, want %q", said, tc.problem)
			}
			if strings.Contains(said, "hunter2") {
				t.Errorf("shown: %s", said)
			}
			if tc.want != "" && c.Ingest.APIToken.Reveal() != tc.want {
				t.Errorf("got %q", c.Ingest.APIToken.Reveal())
			}
			if tc.want == "" && !errors.Is(err, ErrSecret) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// A directory is not a secret, and a secret put where the name of its file
// belongs is not shown.
func TestSecretFileThatIsNone(t *testing.T) {
	for _, text := range []string{"ingest: {api_token_file: /}", "ingest: {api_token_file: SECRETvalue}", "ingest: {api_token_file: \"\"}", "ingest: {api_token_file: [SECRETvalue]}"} {
		_, _, err := parseText(t, text, nil)
		if err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
