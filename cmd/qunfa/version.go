package main

import "fmt"

// versionCmd prints what this program was built from.
type versionCmd struct{}

// Run implements the command.
func (c *versionCmd) Run(g *globals) error {
	_, err := fmt.Fprintln(g.Stdout, g.Version)
	return err
}
