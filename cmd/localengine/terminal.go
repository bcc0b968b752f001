//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// installTerminal puts a pseudo-terminal on descriptor 0 and returns the end
// that a person would sit at, which has to stay open as long as the engine
// runs.
//
// clickhouse-local is interactive only with a terminal, and only when
// interactive does it survive an exception in any of its threads: otherwise it
// installs a handler that ends the process, and a client with a wrong password
// or a connection that breaks would take the server down.
//
// The engine reads the terminal after the last file of statements, which is
// when it is to stop; the word that ends the session is typed ahead.
func installTerminal() (*os.File, error) {
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	err = connectTerminal(person)
	if err == nil {
		_, err = person.WriteString("exit\r\n")
	}
	if err != nil {
		return nil, errors.Join(err, person.Close())
	}
	return person, nil
}

// connectTerminal opens the program's end of the pseudo-terminal, makes it
// raw, and puts it on descriptor 0.
func connectTerminal(person *os.File) error {
	fd := int(person.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("cannot unlock the pseudo-terminal: %w", err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return fmt.Errorf("cannot find the pseudo-terminal: %w", err)
	}
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer program.Close()
	if err := makeRaw(int(program.Fd())); err != nil {
		return fmt.Errorf("cannot configure the pseudo-terminal: %w", err)
	}
	return unix.Dup3(int(program.Fd()), 0, 0)
}

// makeRaw turns off echo, which would fill the terminal's buffer that nobody
// empties, and signals made from control characters.
func makeRaw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}
