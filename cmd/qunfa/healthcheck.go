package main

import (
	"fmt"
	"net/http"
	"time"
)

// healthcheckCmd asks a service whether it can do its work. It is for container
// images without a shell, and so hidden: people have `qunfa status`.
type healthcheckCmd struct {
	URL     string        `arg:"" optional:"" help:"Readiness page of the service." default:"http://127.0.0.1:8082/readyz"`
	Timeout time.Duration `help:"How long to wait for the answer." default:"4s"`
}

// maxHealthBody bounds what is repeated of an answer.
const maxHealthBody = 4 << 10

// Run implements the command. What a service says of itself when it is not ready
// is repeated, so that `docker inspect` shows it.
func (c *healthcheckCmd) Run(g *globals) error {
	req, err := http.NewRequestWithContext(g.ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return usagef("%q is not a URL", c.URL)
	}
	client := &http.Client{Timeout: c.Timeout}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := readAllBounded(res.Body, maxHealthBody)
	if err != nil {
		return err
	}
	fmt.Fprintf(g.Stdout, "%s\n", shownBytes(body))
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", res.Status)
	}
	return nil
}
