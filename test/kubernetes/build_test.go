// Package kubernetes tests deploy/kubernetes without a cluster: every overlay is built
// as kubectl builds it, every object is decoded strictly into the types of Kubernetes,
// what refers to something must find it, and each service is started with the
// configuration, the variables and the files that its container has.
package kubernetes

import (
	"crypto/rand"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"qunfa/internal/clickhouse"
)

const (
	root = "../.." // of the project
	tree = root + "/deploy/kubernetes"
)

// variants are what is built. Each is a directory of the tree, or made by the test.
var variants = []string{"base", "overlays/demo", "overlays/production", "keda"}

// provided are the Secrets that people make for the base and the production overlay,
// with their keys. docs/kubernetes.md says how.
var provided = map[string][]string{
	"qunfa-services": {"api_token", "clickhouse.password", "kafka.password"},
	"qunfa-owner":    {"clickhouse.password", "kafka.password"},
	"qunfa-accounts": {"accounts.yaml"},
}

// kedaOverlay is the production overlay with the other autoscaler.
const kedaOverlay = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../base]
components: [../components/keda]
`

// copyTree makes a copy of the tree that can be built: with passwords, which are not in
// the repository.
func copyTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tree)); err != nil {
		t.Fatal(err)
	}
	secrets := filepath.Join(dir, "overlays/demo/secrets")
	if err := os.RemoveAll(secrets); err != nil { // those of whoever tried it out
		t.Fatal(err)
	}
	for _, name := range []string{"services/api_token", "services/clickhouse.password", "owner/clickhouse.password"} {
		write(t, filepath.Join(secrets, name), rand.Text()+"\n")
	}
	users, err := clickhouse.UsersXML("qunfa", nil)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(secrets, "users.d/qunfa.xml"), users)
	write(t, filepath.Join(dir, "keda/kustomization.yaml"), kedaOverlay)
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// build is `kubectl kustomize`.
func build(t *testing.T, dir string) resmap.ResMap {
	t.Helper()
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatalf("build %s: %v", dir, err)
	}
	return m
}

// manifests are the objects of one variant, as YAML.
func manifests(t *testing.T, dir, variant string) [][]byte {
	t.Helper()
	var list [][]byte
	for _, r := range build(t, filepath.Join(dir, variant)).Resources() {
		y, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, y)
	}
	return list
}

// decode decodes the objects of one variant strictly.
func decode(t *testing.T, variant string, manifests [][]byte) *cluster {
	t.Helper()
	c := &cluster{variant: variant, generated: variant == "overlays/demo"}
	for _, y := range manifests {
		if err := c.add(y); err != nil {
			t.Errorf("%s: %v in\n%s", variant, err, y)
		}
	}
	if w := c.workload("ingest"); w != nil {
		c.cfg = c.configOf(t, *w)
	}
	return c
}

// load builds and decodes one variant.
func load(t *testing.T, dir, variant string) *cluster {
	t.Helper()
	return decode(t, variant, manifests(t, dir, variant))
}

// files are the files of the tree, as they are in the repository.
func files(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "secrets" { // ignored by git, see TestNoSecrets
				return filepath.SkipDir
			}
			return nil
		}
		content, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, tree+"/")] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
