package wechat

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

// bombs are documents made to cost the reader more than the sender.
func bombs() map[string]string {
	const m = MaxBody
	return map[string]string{
		"XML depth":         strings.Repeat("<a>", m/3),
		"XML width":         "<x>" + strings.Repeat("<a/>", m/4-2),
		"XML attributes":    "<x " + strings.Repeat("a='' ", m/5-20) + "/>",
		"XML text in bits":  "<x>" + strings.Repeat("a<!---->", m/8-2) + "</x>",
		"XML entities":      `<!DOCTYPE x [<!ENTITY a "` + strings.Repeat("a", m/2) + `"><!ENTITY b "&a;&a;">]><x>&b;</x>`,
		"XML directives":    strings.Repeat("<!a ", m/4),
		"XML instructions":  strings.Repeat("<?a?>", m/5),
		"JSON arrays":       `{"a":` + strings.Repeat("[", m-10),
		"JSON objects":      strings.Repeat(`{"a":`, m/5),
		"JSON width":        `{"a":[` + strings.Repeat("1,", m/2-10),
		"JSON members":      "{" + strings.Repeat(`"":0,`, m/5-10),
		"JSON empty arrays": `{"a":[` + strings.Repeat("[],", m/3-10),
		"JSON number":       `{"MsgID":` + strings.Repeat("9", m-20) + `}`,
		"JSON string":       `{"MsgID":"` + strings.Repeat("9", m-20) + `"}`,
		"JSON spaces":       "{" + strings.Repeat("\n", m-20) + "}",
	}
}

func TestDocumentBombsCostLittle(t *testing.T) {
	for name, body := range bombs() {
		t.Run(name, func(t *testing.T) {
			if len(body) > MaxBody {
				t.Fatalf("bomb of %d bytes never reaches the parser", len(body))
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			_, err := ParseMassSendJobFinish(sniff([]byte(body)), []byte(body))
			if err == nil {
				t.Error("no error")
			}
			if len(err.Error()) > 400 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > 64*MaxBody {
				t.Errorf("%d MiB allocated in all for a body of 1 MiB", got>>20)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestDocumentLimits(t *testing.T) {
	xml := func(depth int) string { return strings.Repeat("<a>", depth) + strings.Repeat("</a>", depth) }
	objects := func(depth int) string {
		return strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth)
	}
	arrays := func(depth int) string {
		return `{"a":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + "}"
	}
	for _, c := range []struct {
		name, body string
		want       error
	}{
		{"XML levels", xml(maxDepth), nil},
		{"XML levels, one more", xml(maxDepth + 1), errTooDeep},
		{"JSON objects", objects(maxDepth), nil},
		{"JSON objects, one more", objects(maxDepth + 1), errTooDeep},
		{"JSON arrays", arrays(maxDepth), nil},
		{"JSON arrays, one more", arrays(maxDepth + 1), errTooDeep},
		{"XML elements", "<x>" + strings.Repeat("<a/>", maxNodes) + "</x>", nil},
		{"XML elements, one more", "<x>" + strings.Repeat("<a/>", maxNodes+1) + "</x>", errTooMany},
		{"JSON elements", `{"a":[1` + strings.Repeat(",1", maxNodes-1) + "]}", nil},
		{"JSON elements, one more", `{"a":[1` + strings.Repeat(",1", maxNodes) + "]}", errTooMany},
	} {
		if _, err := parseDocument(sniff([]byte(c.body)), []byte(c.body)); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := ParsePush(FormatXML, []byte("<x></x>"+strings.Repeat(" ", MaxBody))); err == nil {
		t.Error("a body over MaxBody is read")
	}
}

func TestSniff(t *testing.T) {
	for body, want := range map[string]string{
		"<": FormatXML, " \r\n\t<": FormatXML, "\xef\xbb\xbf<": FormatXML, "\n\xef\xbb\xbf\n{": FormatJSON,
		"{": FormatJSON, "": "", " ": "", "[": "", "x<": "", "\xef\xbb\xbf": "", "\xef\xbb<": "",
	} {
		if got := sniff([]byte(body)); got != want {
			t.Errorf("sniff(%q) = %q, want %q", body, got, want)
		}
	}
}
