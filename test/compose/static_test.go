//go:build compose

package compose

import (
	"encoding/json"
	"regexp"
	"slices"
	"testing"
)

// resolved is what of `docker compose config` is looked at.
type resolved struct {
	Services map[string]struct {
		Image       string          `json:"image"`
		Restart     string          `json:"restart"`
		User        string          `json:"user"`
		ReadOnly    bool            `json:"read_only"`
		CapDrop     []string        `json:"cap_drop"`
		SecurityOpt []string        `json:"security_opt"`
		MemLimit    json.RawMessage `json:"mem_limit"`
		StopGrace   string          `json:"stop_grace_period"`
		Healthcheck *struct {
			Test    []string `json:"test"`
			Disable bool     `json:"disable"`
		} `json:"healthcheck"`
		Ports []struct {
			HostIP string `json:"host_ip"`
		} `json:"ports"`
		Environment map[string]string `json:"environment"`
	} `json:"services"`
}

// once are the services that end by themselves, and ours are those of our image,
// whose health check is the image's.
var (
	once = []string{"init", "migrate", "qunfa", "simulator"}
	ours = []string{"ingest", "sink", "reconcile"}
)

// writable are services whose image writes beside its volumes.
var writable = []string{"kafka"}

var (
	pinned       = regexp.MustCompile(`^[a-z/-]+:v?[0-9]+(\.[0-9]+)+$`)
	secretlyName = regexp.MustCompile(`(?i)(password|token|secret|key)$`)
)

func TestEveryServiceIsConfined(t *testing.T) {
	p := newProject(t)
	var c resolved
	if err := json.Unmarshal([]byte(p.compose("--profile", "*", "config", "--format", "json")), &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Services) < 12 {
		t.Fatalf("%d services", len(c.Services))
	}
	for name, s := range c.Services {
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s: a port on %q, not on loopback alone", name, port.HostIP)
			}
		}
		if !slices.Contains(s.CapDrop, "ALL") || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s: cap_drop %v, security_opt %v", name, s.CapDrop, s.SecurityOpt)
		}
		if !s.ReadOnly && !slices.Contains(writable, name) {
			t.Errorf("%s can write to its image", name)
		}
		if len(s.MemLimit) == 0 {
			t.Errorf("%s has no memory limit", name)
		}
		if s.Image != p.image && !pinned.MatchString(s.Image) {
			t.Errorf("%s: image %s is not pinned", name, s.Image)
		}
		for variable, value := range s.Environment {
			if secretlyName.MatchString(variable) && value != "" {
				t.Errorf("%s: %s is in the environment", name, variable)
			}
		}
		if slices.Contains(once, name) {
			continue
		}
		if s.Restart != "unless-stopped" || s.StopGrace == "" {
			t.Errorf("%s: restart %q, stop_grace_period %q", name, s.Restart, s.StopGrace)
		}
		if !slices.Contains(ours, name) && (s.Healthcheck == nil || len(s.Healthcheck.Test) == 0) {
			t.Errorf("%s has no health check", name)
		}
	}
}
