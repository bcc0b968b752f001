package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// noFiles keeps a fuzzed file from reading what it names: relative names count
// from a directory that does not exist.
const noFiles = "/nonexistent/qunfa.yaml"

func fuzzLoader() Loader {
	return Loader{LookupEnv: func(name string) (string, bool) { return "v", name != "NOT_SET" }}
}

// FuzzParse reads any file.
//   - It never panics.
//   - Either there is a configuration or an error, never both.
//   - Every problem has a kind and stands on a line that exists.
//   - What was accepted is valid, and prints as YAML that is accepted as well.
func FuzzParse(f *testing.F) {
	seeds, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range append(seeds, "testdata/full.yaml", exampleFile) {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.ContainsAny(data, "/") && bytes.Contains(data, []byte("dir")) {
			return // an absolute accounts_dir would read the machine's files
		}
		c, _, err := fuzzLoader().Parse(noFiles, data)
		if (c == nil) == (err == nil) {
			t.Fatalf("configuration %v and error %v", c, err)
		}
		if err != nil {
			checkProblems(t, err, len(newSource("", data).lines))
			return
		}
		var out bytes.Buffer
		if err := c.Print(&out); err != nil {
			t.Fatal(err)
		}
	})
}

func checkProblems(t *testing.T, err error, lines int) {
	t.Helper()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("no list of problems: %v", err)
	}
	for _, e := range joined.Unwrap() {
		p, ok := errors.AsType[*Problem](e)
		if !ok || p.Kind == nil || p.Message == "" || p.Place.Line < 0 || p.Place.Line > lines {
			t.Errorf("%#v of %d lines", p, lines)
		}
	}
}

// secretSpots are files with a hole where a secret stands.
var secretSpots = []string{
	"ingest:\n  api_token: @\n",
	"ingest: {old_api_token: @}\n",
	"kafka: {sasl: {mechanism: plain, username: u, password: @}}\n",
	"clickhouse:\n  password:\n    @\n",
	"accounts:\n  - tokens: [@]\n",
	"accounts:\n  - aes_keys: [x, @]\n    nonsense: 1\n",
	"accounts:\n  - app_secret: @\n    appid: wx1\n  - appid: wx1\n",
	"accounts: [{appid: wx1, token_url_bearer: @, upstrem: x}]\n",
	"platforms:\n  - tokens:\n      - @\n",
	"accounts:\n  - upstream: https://u:@@h/\n",
	"accounts:\n  - token_url: ftp://h/?k=@\n",
}

// FuzzSecretsStayHidden puts a secret, followed by anything, where a secret
// belongs. However broken the file gets by what follows, no error, no warning
// and no printed configuration shows the secret.
func FuzzSecretsStayHidden(f *testing.F) {
	for _, rest := range []string{"", ": x", " # c", "\n", "\n\tx", "\"", "'", "]", "}", ", ${NOT_SET}", "${", "$$", "\n  x: y", "\n---\n", "*a", "&a b", "!!int", "|\n  x"} {
		for spot := range secretSpots {
			f.Add(uint8(spot), "", rest)
		}
	}
	f.Add(uint8(0), "{file: ", "}")
	f.Add(uint8(0), "[", "]")
	f.Add(uint8(0), "{", ": 1}")
	f.Add(uint8(0), "|\n        ", "\n    key: x")
	f.Fuzz(func(t *testing.T, spot uint8, before, after string) {
		// A newline before the secret, unless it is indented deeper than any of the
		// keys, would move it to where it is none.
		const secret = "SECRETxyzzy"
		switch before {
		case "", "{file: ", "[", "{", "|\n        ", `"`, "'", "!!str ", "&a ", ">\n        ":
		default:
			return
		}
		place := secretSpots[int(spot)%len(secretSpots)]
		if strings.Contains(before, "\n") && strings.Contains(place, "//") {
			return // in the middle of a URL no block begins: the secret would be a key
		}
		text := strings.Replace(place, "@", before+secret+after, 1)
		c, warnings, err := fuzzLoader().Parse(noFiles, []byte(text))
		var said bytes.Buffer
		for _, w := range warnings {
			said.WriteString(w.String())
		}
		if err != nil {
			said.WriteString(err.Error())
		} else if err := c.Print(&said); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(said.String(), secret) {
			t.Errorf("the secret is shown\n%s\n%s", text, said.String())
		}
	})
}
