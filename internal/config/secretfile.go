package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// maxSecretFile bounds a secret file; one that is larger is the wrong file.
const maxSecretFile = 64 << 10

// secret reads a secret given as a value, as ${ENV} or as {file: …}.
func (d *decoder) secret(path string, n ast.Node, s *Secret) {
	m := d.origin.marks[path]
	if text, ok := scalarText(n); ok {
		value, err := expandEnv(text, d.lookup)
		switch {
		case err != nil:
			d.problem(ErrEnv, path, m, "%w", err)
		case value == "" && text != "":
			d.problem(ErrSecret, path, m, "the environment variable is empty")
		default:
			*s = NewSecret(value)
		}
		return
	}
	file := d.resolve(fileOf(n))
	if file == nil {
		d.problem(ErrSecret, path, m, "want a value, ${NAME} or {file: PATH}")
		return
	}
	d.secretFile(path, file, s)
}

// fileOf returns PATH of {file: PATH}, and nil of anything else. What else
// stands where a secret belongs is not reported key by key: it may be one.
func fileOf(n ast.Node) ast.Node {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) == 1 {
		n = m.Values[0]
	}
	if v, ok := n.(*ast.MappingValueNode); ok && v.Key.GetToken().Value == "file" {
		return v.Value
	}
	return nil
}

// secretFile reads the file that a node names.
func (d *decoder) secretFile(path string, n ast.Node, s *Secret) {
	m := d.origin.marks[path]
	name, ok := scalarText(n)
	if !ok {
		d.problem(ErrType, path, m, "want the name of a file")
		return
	}
	name, err := expandEnv(name, d.lookup)
	if err != nil {
		d.problem(ErrEnv, path, m, "%w", err)
		return
	}
	name = d.abs(name)
	d.secrets = append(d.secrets, stampOf(name))
	value, mode, err := readSecretFile(name)
	if err != nil {
		d.problem(ErrSecret, path, m, "%w", err)
		return
	}
	if mode.Perm()&^0o640 != 0 {
		d.warnings = append(d.warnings, Warning{Path: path, Place: m.place(), Message: fmt.Sprintf(
			"the secret file can be read or changed by others (mode %04o); chmod 0600 it", mode.Perm())})
	}
	*s = NewSecret(value)
}

// readSecretFile returns what the file holds without the newline at its end.
// Its errors do not name the file: a value put where the file's name belongs
// would be shown.
func readSecretFile(name string) (string, fs.FileMode, error) {
	if name == "" {
		return "", 0, errors.New("the name of the secret file is empty")
	}
	f, err := os.Open(name)
	if err != nil {
		return "", 0, fmt.Errorf("cannot read the secret file: %w", withoutName(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", 0, fmt.Errorf("cannot read the secret file: %w", withoutName(err))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return "", 0, fmt.Errorf("cannot read the secret file: %w", withoutName(err))
	}
	value := strings.TrimRight(string(data), "\r\n")
	switch {
	case len(data) > maxSecretFile:
		return "", 0, fmt.Errorf("the secret file is larger than %d KiB; is it the right one?", maxSecretFile>>10)
	case value == "":
		return "", 0, errors.New("the secret file is empty")
	}
	return value, info.Mode(), nil
}

// withoutName takes the file's name out of an error of package os.
func withoutName(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return errors.New("input or output error")
}
