//go:build linux

package main

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"qunfa/internal/embedded/engineproto"
)

// options are the command line.
type options struct {
	lib      string // libchdb.so, absolute
	path     string // data directory, absolute
	config   string // ClickHouse configuration, absolute; its users_config is relative to it
	host     string // address to listen on
	tcpPort  int    // native protocol
	httpPort int    // 0: no HTTP
	logLevel string // ClickHouse's name of a level; its log goes to standard error
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet(engineproto.Name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.lib, "lib", "", "`file` of the library, libchdb.so")
	flags.StringVar(&o.path, "path", "", "data `directory`, made when it is missing")
	flags.StringVar(&o.config, "config", "", "`file` of the ClickHouse configuration")
	flags.StringVar(&o.host, "host", "127.0.0.1", "`address` to listen on")
	flags.IntVar(&o.tcpPort, "tcp", 0, "`port` of the native protocol")
	flags.IntVar(&o.httpPort, "http", 0, "`port` of HTTP; 0: none, for browsers can reach it")
	flags.StringVar(&o.logLevel, "log-level", "warning", "ClickHouse log `level`")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if o.lib == "" || o.path == "" || o.config == "" || o.tcpPort == 0 || flags.NArg() > 0 {
		return options{}, errors.New("-lib, -path, -config and -tcp are needed, and nothing else")
	}
	// Absolute, for a bare name of the library would be looked up in the
	// system's directories, and so that nothing depends on where we stand.
	for _, p := range []*string{&o.lib, &o.path, &o.config} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return options{}, err
		}
		*p = abs
	}
	return o, nil
}

// check finds what ClickHouse would report late, badly or not at all: it goes
// on without a configuration file that is missing, and with the ports that it
// could bind.
func (o options) check() error {
	if err := checkXML(o.config); err != nil {
		return because(engineproto.ExitConfig, err)
	}
	for _, port := range o.ports() {
		ln, err := net.Listen("tcp", net.JoinHostPort(o.host, strconv.Itoa(port)))
		if err != nil {
			return because(engineproto.ExitPort, fmt.Errorf("cannot listen: %w", err))
		}
		if err := ln.Close(); err != nil {
			return because(engineproto.ExitPort, err)
		}
	}
	return nil
}

func (o options) ports() []int {
	if o.httpPort == 0 {
		return []int{o.tcpPort}
	}
	return []int{o.tcpPort, o.httpPort}
}

// checkXML says where a configuration file stops being XML.
func checkXML(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read the configuration: %w", err)
	}
	defer f.Close()
	for dec := xml.NewDecoder(f); ; {
		_, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("configuration %s is not XML: %w", path, err)
		}
	}
}

// arguments are the command line of clickhouse-local. files are the pipes
// with the statements.
func (o options) arguments(files []*os.File) []string {
	args := []string{
		"clickhouse-local",
		"--path=" + o.path,
		// Always named: without it a config.xml in the working directory of
		// whoever started us would be used.
		"--config-file=" + o.config,
		"--listen_host=" + o.host,
		"--tcp_port=" + strconv.Itoa(o.tcpPort),
		"--http_port=" + strconv.Itoa(o.httpPort),
		// Idle connections look for a shutdown this often, in seconds.
		"--poll_interval=1",
		// The level applies to standard error only with the console on.
		"--logger.console", "--log-level=" + o.logLevel,
		// See installTerminal for why it has to believe in a person.
		"--interactive", "--disable_suggestion",
		"--progress=off", "--progress-table=off", "--enable-progress-table-toggle=0",
		// A file of our own: the client changes its mode to 0600, which would
		// lock everybody else out of /dev/null. There is no --output-format,
		// since that would change what clients of the server get.
		"--history_file=" + filepath.Join(o.path, historyFile),
	}
	for _, f := range files {
		args = append(args, fmt.Sprintf("--queries-file=/proc/self/fd/%d", f.Fd()))
	}
	return args
}
