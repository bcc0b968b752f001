package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"qunfa/internal/app"
)

// command is one that a document tells people to type.
type command struct {
	file, line string
	program    string // qunfa or a service
	args       []string
}

var (
	codeOf = regexp.MustCompile("(?ms)^ *```[a-z]*\n(.*?)^ *```$")
	inline = regexp.MustCompile("`((?:bin/|/usr/bin/)?(?:qunfa|ingest|sink|reconcile) [^`\n]+)`")
	// substitution is what the shell puts another command's answer for.
	substitution = regexp.MustCompile(`\$\([^()]*\)`)
	// start is how a command begins: as a program, or in a container of the compose deployment.
	start = regexp.MustCompile(`^(?:\$ )?(?:docker compose (?:--?[a-z-]+ \S+ )*run (?:--?[a-zA-Z]+ )*|(?:\./)?bin/|/usr/bin/)?(qunfa|ingest|sink|reconcile) (.*)$`)
)

// commandsIn finds the commands of our programs in a document, in blocks of
// code and in code spans.
func commandsIn(t *testing.T, file string) []command {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, m := range codeOf.FindAllSubmatch(b, -1) {
		joined := strings.ReplaceAll(string(m[1]), "\\\n", " ")
		lines = append(lines, strings.Split(joined, "\n")...)
	}
	for _, m := range inline.FindAllSubmatch(codeOf.ReplaceAll(b, nil), -1) {
		lines = append(lines, string(m[1]))
	}
	var list []command
	for _, line := range lines {
		if m := start.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			if args, ok := shellWords(substitution.ReplaceAllString(m[2], "1")); ok && len(args) > 0 && isCommand(args[0]) {
				for i := range args {
					if args[i] == "MSGID" { // stands for a number
						args[i] = "1"
					}
				}
				list = append(list, command{file, strings.TrimSpace(line), m[1], args})
			}
		}
	}
	return list
}

// isCommand tells a command from prose and from lines such as "qunfa 1.2.3".
func isCommand(word string) bool {
	return strings.HasPrefix(word, "-") || word == strings.ToLower(word)
}

// shellWords splits a line as a shell does, up to a comment, a redirection or
// a pipe. It is false if a quote is not closed: the line goes on.
func shellWords(line string) ([]string, bool) {
	var words []string
	var word strings.Builder
	in, quote := false, rune(0)
	for _, r := range line + " " {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, in = r, true
		case r == ' ':
			if in {
				words = append(words, word.String())
			}
			word.Reset()
			in = false
		case !in && strings.ContainsRune("#>|<;&", r):
			return words, true
		default:
			word.WriteRune(r)
			in = true
		}
	}
	return words, quote == 0
}

// parse says what is wrong with the command line, without running it.
func (c command) parse() string {
	if c.program != "qunfa" {
		var errs bytes.Buffer
		app.Main(c.program, "", "", c.args, &errs, &errs)
		if strings.Contains(errs.String(), "cannot read the file") { // the flags were understood
			return ""
		}
		return errs.String()
	}
	var out bytes.Buffer
	all := cli{globals: globals{Stdout: &out, Stderr: &out}}
	parser, err := newParser(&all, func(int) {})
	if err != nil {
		return err.Error()
	}
	if _, err := parser.Parse(c.args); err != nil && !onlyNamed(c.args, parser) {
		return err.Error()
	}
	return ""
}

// onlyNamed says whether the words name a command without what it needs, as prose does: `qunfa dead show`.
func onlyNamed(args []string, parser *kong.Kong) bool {
	node := parser.Model.Node
	for _, word := range args {
		next := (*kong.Node)(nil)
		for _, child := range node.Children {
			if child.Name == word {
				next = child
			}
		}
		if next == nil {
			return false
		}
		node = next
	}
	return true
}

// TestDocumentedCommandsExist parses every command line that the documents
// show, so that a command or a flag that is renamed does not stay in them.
func TestDocumentedCommandsExist(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())                               // there is no configuration that a service could start with
	if err := os.Mkdir("secrets", 0o700); err != nil { // deploy-secrets wants one that exists
		t.Fatal(err)
	}
	found := map[string]int{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".md") && filepath.Base(path) != "CHANGELOG.md" {
			for _, c := range commandsIn(t, path) {
				found[filepath.Base(path)]++
				if problem := c.parse(); problem != "" {
					t.Errorf("%s: %s\n%s", c.file, c.line, problem)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for file, least := range map[string]int{"README.md": 15, "runbook.md": 8, "runbook.zh.md": 8, "rebuild.md": 6, "deploy.md": 4} {
		if found[file] < least {
			t.Errorf("only %d commands found in %s", found[file], file)
		}
	}
}

// TestReadmeListsEveryCommand holds the tables of commands in both languages.
func TestReadmeListsEveryCommand(t *testing.T) {
	var out bytes.Buffer
	all := cli{globals: globals{Stdout: &out, Stderr: &out}}
	parser, err := newParser(&all, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"../../README.md", "../../README.zh.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range parser.Model.Children {
			if !c.Hidden && !strings.Contains(string(text), "`qunfa "+c.Name) {
				t.Errorf("%s does not name qunfa %s", file, c.Name)
			}
		}
	}
}

func TestShellWords(t *testing.T) {
	words, ok := shellWords(`record --label '早 报' "a b"c   # a single one`)
	if want := "record|--label|早 报|a bc"; !ok || strings.Join(words, "|") != want {
		t.Errorf("got %q, %t", words, ok)
	}
	if _, ok := shellWords(`query "SELECT`); ok {
		t.Error("an open quote is taken for a whole line")
	}
}
