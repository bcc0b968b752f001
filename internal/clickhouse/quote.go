package clickhouse

import (
	"fmt"
	"strings"
)

var (
	identifierEscapes = strings.NewReplacer("\\", "\\\\", "`", "\\`")
	textEscapes       = strings.NewReplacer("\\", "\\\\", "'", "\\'")
)

// quoteName writes an identifier so that ClickHouse takes it for nothing else.
func quoteName(s string) string { return "`" + identifierEscapes.Replace(s) + "`" }

// quoteText writes a string literal.
func quoteText(s string) string { return "'" + textEscapes.Replace(s) + "'" }

// checkName refuses names that no quoting makes usable in every place where a
// name is written (SQL, XML, file names of the server).
func checkName(what, s string) error {
	if s == "" || len(s) > 128 {
		return fmt.Errorf("%s name %q: want 1 to 128 characters", what, s)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }); i >= 0 {
		return fmt.Errorf("%s name %q: control characters are not allowed", what, s)
	}
	return nil
}
