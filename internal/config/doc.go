// Package config reads qunfa's configuration: one YAML file, and optionally a
// directory of files with more accounts.
//
// Reading is strict. An unknown key, a key given twice and a value of the wrong
// kind are refused with the line they stand on, and everything that is wrong is
// reported at once. Defaults are in Go ([Default]); what a file does not say
// keeps them. Any value may contain ${ENV}.
//
// No secret is ever part of an error or a warning. The excerpts in errors show
// the key and, only where the value is not secret, the value.
package config
