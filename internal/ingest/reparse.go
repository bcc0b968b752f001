package ingest

import (
	"strings"

	"qunfa/internal/events"
	"qunfa/internal/wechat"
)

// Reparse reads the raw text of a callback that was stored as old, as it would be
// read if it came now. How it came, and for which account, stays as it was.
func Reparse(old *events.Finished, raw string) (*events.Finished, error) {
	m, err := wechat.ParseMassSendJobFinish(rawFormat(old.Format, raw), []byte(raw))
	if err != nil {
		return nil, err
	}
	return finished(old.AppID, wechat.Push{Mode: old.Mode, Format: old.Format, Body: []byte(raw)}, m), nil
}

// rawFormat tells the format of a callback from its first character if nobody
// has noted it.
func rawFormat(noted, raw string) string {
	switch {
	case noted != "":
		return noted
	case strings.HasPrefix(strings.TrimLeft(raw, "\ufeff \t\r\n"), "{"):
		return wechat.FormatJSON
	}
	return wechat.FormatXML
}
