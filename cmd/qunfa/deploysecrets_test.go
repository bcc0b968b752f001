package main

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// deploySecrets runs the command for the user who runs the test, and returns
// every file with its content.
func deploySecrets(t *testing.T, dir string) map[string]string {
	t.Helper()
	uid, gid := strconv.Itoa(os.Getuid()), strconv.Itoa(os.Getgid())
	r := runWith(t, "", "deploy-secrets", dir, "--service-uid", uid, "--grafana-uid", uid, "--clickhouse-gid", gid, "--own", dir)
	if r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[name] = strings.TrimSpace(string(content))
		if strings.Contains(r.stdout+r.stderr, files[name]) {
			t.Errorf("the output shows the content of %s", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestDeploySecretsAreMadeOnceAndKept(t *testing.T) {
	dir := t.TempDir()
	first := deploySecrets(t, dir)
	if d := cmp.Diff(first, deploySecrets(t, dir)); d != "" {
		t.Errorf("the second run changed something (-first, +second):\n%s", d)
	}
	seen := map[string]string{}
	for _, name := range []string{
		"owner/clickhouse.password", "services/clickhouse.password", "reader/clickhouse.password",
		"services/api_token", "clickhouse/admin.password", "grafana/admin.password",
	} {
		secret := first[name]
		if len(secret) < 20 {
			t.Errorf("%s holds %d characters", name, len(secret))
		}
		if other, ok := seen[secret]; ok {
			t.Errorf("%s and %s hold the same secret", name, other)
		}
		seen[secret] = name
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o400 {
			t.Errorf("%s has mode %04o", name, info.Mode().Perm())
		}
	}
	if first["grafana/clickhouse.password"] != first["reader/clickhouse.password"] {
		t.Error("Grafana does not have the password of the reader")
	}
}

func TestDeploySecretsWriteUsersWithoutPasswords(t *testing.T) {
	files := deploySecrets(t, t.TempDir())
	xml := files["users.d/qunfa.xml"]
	for _, role := range []string{"owner", "services", "reader"} {
		password := files[role+"/clickhouse.password"]
		sum := sha256.Sum256([]byte(password))
		if !strings.Contains(xml, hex.EncodeToString(sum[:])) {
			t.Errorf("no user has the password of %s", role)
		}
		if strings.Contains(xml, password) {
			t.Errorf("the password of %s stands in clear", role)
		}
	}
}
