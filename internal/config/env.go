package config

import (
	"errors"
	"fmt"
	"strings"
)

// expandEnv replaces ${NAME} by the variable's value and $$ by a dollar sign.
// Any other dollar sign stays. What a variable holds is not expanded again.
// Errors name the variable, never the text.
func expandEnv(text string, lookup func(string) (string, bool)) (string, error) {
	var out strings.Builder
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 || i == len(text)-1 {
			out.WriteString(text)
			return out.String(), nil
		}
		out.WriteString(text[:i])
		rest := text[i+1:]
		switch rest[0] {
		case '$':
			out.WriteByte('$')
			text = rest[1:]
		case '{':
			name, after, ok := strings.Cut(rest[1:], "}")
			if !ok || !isEnvName(name) {
				return "", errors.New("want ${NAME} with a name of letters, digits and underscores, and $$ for a dollar sign")
			}
			value, ok := lookup(name)
			if !ok {
				return "", fmt.Errorf("the environment variable %s is not set", name)
			}
			out.WriteString(value)
			text = after
		default:
			out.WriteByte('$')
			text = rest
		}
	}
}

func isEnvName(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
