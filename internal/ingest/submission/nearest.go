package submission

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// nearest returns the known name that a mistyped one most likely stands for,
// or "" if none is near.
func nearest(name string, known []string) string {
	if len(name) > 2*maxName {
		return "" // the distance is quadratic, and nobody mistypes at this length
	}
	simple := simplify(name)
	distance := func(k string) int { return levenshtein(simple, simplify(k)) }
	best := slices.MinFunc(known, func(a, b string) int {
		return cmp.Or(cmp.Compare(distance(a), distance(b)), cmp.Compare(a, b))
	})
	if distance(best) > 1+len(simple)/4 {
		return ""
	}
	return best
}

// simplify drops what differs by habit only: msgId, msg-id, MSG_ID.
func simplify(s string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "", ".", "").Replace(strings.ToLower(s))
}

// levenshtein counts the bytes to insert, delete or change between two strings.
func levenshtein(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
