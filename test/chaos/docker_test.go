//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// label marks the containers and networks of a run with its process.
const label = "qunfa.chaos"

// docker runs a command of the engine.
func docker(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args[:min(2, len(args))], " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

func mustDocker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := docker(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sweep removes what runs that were killed have left.
func sweep(t *testing.T) {
	t.Helper()
	for _, kind := range []string{"container", "network"} {
		list := []string{kind, "ls", "--filter", "label=" + label, "--format", "{{.ID}} {{.Label \"" + label + "\"}}"}
		if kind == "container" {
			list = append(list, "--all")
		}
		for line := range strings.Lines(mustDocker(t, list...)) {
			id, owner, _ := strings.Cut(strings.TrimSpace(line), " ")
			pid, err := strconv.Atoi(owner)
			if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				remove(t, kind, id)
			}
		}
	}
}

func remove(t *testing.T, kind, id string) {
	t.Helper()
	args := []string{kind, "rm", id}
	if kind == "container" {
		args = []string{kind, "rm", "--force", "--volumes", id}
	}
	if _, err := docker(args...); err != nil {
		t.Error(err)
	}
}

// network makes a network of the run.
func network(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("qunfa-chaos-%d", os.Getpid())
	mustDocker(t, "network", "create", "--label", fmt.Sprintf("%s=%d", label, os.Getpid()), name)
	t.Cleanup(func() { remove(t, "network", name) })
	return name
}

// container is a server that is put in trouble.
type container struct {
	t    *testing.T
	name string
}

// runContainer starts a container; args are those of docker run, and the image.
// A server that ends itself is started again, as whatever runs servers does.
func runContainer(t *testing.T, name string, args ...string) *container {
	t.Helper()
	c := &container{t, fmt.Sprintf("qunfa-chaos-%d-%s", os.Getpid(), name)}
	t.Cleanup(func() { remove(t, "container", c.name) })
	mustDocker(t, append([]string{"run", "--detach", "--name", c.name, "--label", fmt.Sprintf("%s=%d", label, os.Getpid()),
		"--restart", "on-failure"}, args...)...)
	return c
}

// trouble kills, stops or freezes the container.
func (c *container) trouble(what string) (undo func() error, err error) {
	commands := map[string][2]string{"kill": {"kill", "start"}, "stop": {"stop", "start"}, "freeze": {"pause", "unpause"}}[what]
	if commands[0] == "" {
		return nil, fmt.Errorf("nobody knows how to %s %s", what, c.name)
	}
	if _, err := docker(commands[0], c.name); err != nil {
		return nil, err
	}
	return func() error {
		_, err := docker(commands[1], c.name)
		return err
	}, nil
}

// revive starts the container if it has ended by itself.
func (c *container) revive() error {
	_, err := docker("start", c.name)
	return err
}

// log is the end of what the container has written.
func (c *container) log() string {
	out, err := exec.Command("docker", "logs", "--tail", "30", c.name).CombinedOutput()
	return fmt.Sprint(string(out), err)
}
