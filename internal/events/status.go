package events

import (
	"regexp"
	"strconv"
	"strings"
)

// Up to nine digits: longer numbers are no codes, and these fit everywhere. The
// documentation mixes half- and full-width parentheses; the wire may as well.
var errStatus = regexp.MustCompile(`^err\s*[(\x{FF08}]\s*(\d{1,9})\s*[)\x{FF09}]$`)

var unspaced = strings.NewReplacer(" ", "", "_", "")

// ParseStatus says what a raw Status of the callback means: one of the Status
// constants, and the number of an err(number). The list of codes is open, so any
// number is a rejection; what cannot be read is [StatusUnknown], never an error.
// The spelling without the space stands in older documentation.
func ParseStatus(raw string) (kind string, errCode *int64) {
	s := strings.ToLower(strings.TrimSpace(raw))
	switch unspaced.Replace(s) {
	case "sendsuccess":
		return StatusSent, nil
	case "sendfail":
		return StatusFailed, nil
	}
	m := errStatus.FindStringSubmatch(s)
	if m == nil {
		return StatusUnknown, nil
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return StatusUnknown, nil
	}
	return StatusRejected, &n
}
