package submission

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
)

// Format is how records are written.
type Format string

// The formats. Auto looks at the first bytes.
const (
	Auto  Format = "auto"
	JSON  Format = "json"
	Lines Format = "jsonl"
	CSV   Format = "csv"
)

// Parse reads records in the given format; see [ParseJSON], [ParseLines] and [ParseCSV].
func Parse(format Format, r io.Reader, o Options) iter.Seq2[Item, error] {
	if format == Auto {
		br := bufio.NewReaderSize(r, maxRecord)
		format, r = detect(br), br
	}
	switch format {
	case JSON:
		return ParseJSON(r, o)
	case Lines:
		return ParseLines(r, o)
	case CSV:
		return ParseCSV(r, o)
	}
	return func(yield func(Item, error) bool) {
		yield(Item{}, fmt.Errorf("unknown format %q: want %s, %s, %s or %s", format, Auto, JSON, Lines, CSV))
	}
}

// detect tells the formats apart: JSON lines if the first line is an object by
// itself, JSON if it begins like JSON, else CSV. It reads one line ahead at
// most, so that records from a pipe come out as they come in.
func detect(br *bufio.Reader) Format {
	first := firstLine(br)
	switch {
	case len(first) == 0:
		return Lines // nothing at all: no records, and no error about a header
	case first[0] == '[':
		return JSON
	case first[0] != '{':
		return CSV
	case json.Valid(first) && !bytes.Contains(first, []byte(`"submissions"`)):
		return Lines
	}
	return JSON
}

// firstLine peeks at the first line that is not blank, as far as the buffer holds it.
func firstLine(br *bufio.Reader) []byte {
	for n := 1; ; n++ {
		head, err := br.Peek(max(n, br.Buffered()))
		line := bytes.TrimLeft(bytes.TrimPrefix(head, bom), " \t\r\n")
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			return bytes.TrimSpace(line[:end])
		}
		if err != nil {
			return bytes.TrimSpace(line)
		}
		n = len(head)
	}
}
