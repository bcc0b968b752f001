package wechat

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The formats of a push.
const (
	FormatXML  = "xml"
	FormatJSON = "json"
)

// Limits of a document. The largest real one, eight articles in compatible
// mode, stays under 20 KiB, 8 levels and 200 elements.
const (
	// MaxBody is the size of the largest body that is looked at, in bytes.
	MaxBody  = 1 << 20
	maxDepth = 32
	maxNodes = 1 << 14
)

// node is an element of an XML document or a member of a JSON object: one shape
// for both, so that there is one set of rules for reading fields.
//
// An array in JSON is its elements repeated under the array's name, as XML would
// have it. null is left out; true and false are 1 and 0.
type node struct {
	name string
	text string // XML: all text directly inside; JSON: the string, or the number as it was written
	kids []*node
}

// child returns the member called name, or nil. The exact spelling wins over
// others in upper or lower case (WeChat writes MsgID here and MsgId there).
//
// Of several the first wins, as it does in WeChat's own sample code. This
// matters: text that people write comes late in a push, so an element smuggled
// in through it never replaces one that WeChat wrote.
func (n *node) child(name string) *node {
	if n == nil {
		return nil
	}
	var other *node
	for _, k := range n.kids {
		if k.name == name {
			return k
		}
		if other == nil && strings.EqualFold(k.name, name) {
			other = k
		}
	}
	return other
}

// all returns every member called name, in any mixture of upper and lower case.
func (n *node) all(name string) []*node {
	if n == nil {
		return nil
	}
	var found []*node
	for _, k := range n.kids {
		if strings.EqualFold(k.name, name) {
			found = append(found, k)
		}
	}
	return found
}

// str returns the text of the member called name, or "".
func (n *node) str(name string) string {
	if k := n.child(name); k != nil {
		return k.text
	}
	return ""
}

// word is str without the white space around it.
func (n *node) word(name string) string { return strings.TrimSpace(n.str(name)) }

// integer returns the whole number in the member called name; nil if there is no such
// member or it is empty. An empty element is not a zero: WeChat writes zeros out.
func (n *node) integer(name string) (*int64, error) {
	k := n.child(name)
	if k == nil {
		return nil, nil
	}
	if len(k.kids) > 0 {
		return nil, fmt.Errorf("element %s holds other elements: want a whole number", k.name)
	}
	s := strings.TrimSpace(k.text)
	if s == "" {
		return nil, nil
	}
	v, ok := parseWhole(s)
	switch {
	case ok:
		return &v, nil
	case len(s) > longestWhole: // an openid for instance, which is nobody's business
		return nil, fmt.Errorf("element %s holds %d bytes: want a whole number", clip(k.name), len(s))
	}
	return nil, fmt.Errorf("element %s holds %q: want a whole number", clip(k.name), clip(s))
}

// longestWhole is the length of the longest text that an error about a number
// quotes. An openid is longer, and errors are logged.
const longestWhole = 20

// parseWhole reads a whole number that fits 64 bits. Converters on the way from
// XML to JSON are known to write 3.147483648E9; that is accepted as long as the
// floating-point number names one integer only.
func parseWhole(s string) (int64, bool) {
	if v, err := strconv.ParseInt(s, 10, 64); err == nil {
		return v, true
	}
	if !strings.ContainsAny(s, ".eE") || strings.ContainsAny(s, "xXpP_") {
		return 0, false
	}
	const exact = 1 << 53
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || f <= -exact || f >= exact {
		return 0, false
	}
	return int64(f), true
}

// sniff returns the format that the first character of body tells, or "".
func sniff(body []byte) string {
	body = skipBlank(body)
	switch {
	case len(body) == 0:
		return ""
	case body[0] == '<':
		return FormatXML
	case body[0] == '{':
		return FormatJSON
	}
	return ""
}

var bom = []byte("\xef\xbb\xbf")

// skipBlank removes white space and a byte order mark from the front.
func skipBlank(body []byte) []byte {
	const blank = " \t\r\n"
	body = bytes.TrimLeft(body, blank)
	return bytes.TrimLeft(bytes.TrimPrefix(body, bom), blank)
}

// errTooDeep and errTooMany stop documents made to exhaust memory.
var (
	errTooDeep = fmt.Errorf("more than %d levels of elements", maxDepth)
	errTooMany = fmt.Errorf("more than %d elements", maxNodes)
)

// parseDocument reads a document. With an error it returns what it had read until then,
// never nil: the head of a push is often enough to know what it is.
// What follows the end of the document is ignored.
func parseDocument(format string, body []byte) (*node, error) {
	if len(body) > MaxBody {
		return &node{}, fmt.Errorf("body of %d bytes: at most %d are read", len(body), MaxBody)
	}
	b := builder{root: &node{}}
	var err error
	switch format {
	case FormatXML:
		err = b.xml(skipBlank(body))
	case FormatJSON:
		err = b.json(skipBlank(body))
	default:
		err = fmt.Errorf("unknown format %q: want %s or %s", clip(format), FormatXML, FormatJSON)
	}
	return b.root, err
}

// builder grows a tree and counts its nodes.
type builder struct {
	root  *node
	count int
}

func (b *builder) add(parent *node, name string) (*node, error) {
	if b.count++; b.count > maxNodes {
		return nil, errTooMany
	}
	n := &node{name: name}
	parent.kids = append(parent.kids, n)
	return n, nil
}

func (b *builder) xml(body []byte) error {
	dec := xml.NewDecoder(bytes.NewReader(cleanXML(body)))
	// The bytes were made valid UTF-8 just before. Where they were in another encoding,
	// names and numbers survive, which is all that is needed.
	dec.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	var open []frame
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return errors.New("no XML element")
		}
		if err != nil {
			return fmt.Errorf("malformed XML: %w", err)
		}
		if open, err = b.xmlToken(open, tok); err != nil {
			return err
		}
		if _, end := tok.(xml.EndElement); end && len(open) == 0 {
			return nil
		}
	}
}

// frame is an element whose end has not been seen. Its text comes in pieces and
// is collected in a buffer: joining strings would take time that grows with the square
// of the number of pieces, which is the sender's to choose.
type frame struct {
	*node
	buf []byte
}

// xmlToken applies one token to the elements that are open, outermost first.
func (b *builder) xmlToken(open []frame, tok xml.Token) ([]frame, error) {
	last := len(open) - 1
	switch tok := tok.(type) {
	case xml.Directive:
		// WeChat sends no document type; those who do want entities expanded.
		return open, errors.New("XML with a document type is refused")
	case xml.StartElement:
		n, err := b.xmlStart(open, tok.Name.Local)
		return append(open, frame{node: n}), err
	case xml.EndElement:
		open[last].text = string(open[last].buf)
		return open[:last], nil
	case xml.CharData:
		if last >= 0 {
			open[last].buf = append(open[last].buf, tok...)
		}
	}
	return open, nil
}

func (b *builder) xmlStart(open []frame, name string) (*node, error) {
	switch {
	case len(open) >= maxDepth:
		return nil, errTooDeep
	case len(open) == 0:
		b.root.name = name
		return b.root, nil
	}
	return b.add(open[len(open)-1].node, name)
}

// cleanXML replaces what XML does not allow and people nevertheless type into
// chats, control characters above all, so that one such character in a message does
// not make the whole push unreadable.
func cleanXML(body []byte) []byte {
	if utf8.Valid(body) && bytes.IndexFunc(body, illegalXML) < 0 {
		return body
	}
	return bytes.Map(func(r rune) rune {
		if illegalXML(r) {
			return utf8.RuneError
		}
		return r
	}, body)
}

func illegalXML(r rune) bool {
	if r < 0x20 {
		return r != '\t' && r != '\n' && r != '\r'
	}
	return r == 0xFFFE || r == 0xFFFF
}

func (b *builder) json(body []byte) error {
	dec := json.NewDecoder(bytes.NewReader(cleanJSON(body)))
	dec.UseNumber() // ids are larger than 2^53, where float64 loses them
	tok, err := dec.Token()
	if errors.Is(err, io.EOF) {
		return errors.New("no JSON object")
	}
	if err != nil {
		return fmt.Errorf("malformed JSON: %w", err)
	}
	if tok != json.Delim('{') {
		return errors.New("JSON that is not an object")
	}
	return b.jsonObject(dec, b.root, 1)
}

// cleanJSON turns control characters into spaces. Between values that changes
// nothing; inside strings JSON forbids them, yet they come.
func cleanJSON(body []byte) []byte {
	if bytes.IndexFunc(body, func(r rune) bool { return r < ' ' }) < 0 {
		return body
	}
	clean := bytes.Clone(body)
	for i, c := range clean {
		if c < ' ' {
			clean[i] = ' '
		}
	}
	return clean
}

// jsonObject reads members into n until the object's closing brace.
func (b *builder) jsonObject(dec *json.Decoder, n *node, depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	for {
		tok, err := jsonToken(dec)
		if err != nil || tok == json.Delim('}') {
			return err
		}
		name, _ := tok.(string) // the decoder lets nothing else stand here
		if tok, err = jsonToken(dec); err != nil {
			return err
		}
		if err := b.jsonValue(dec, n, name, tok, depth); err != nil {
			return err
		}
	}
}

// jsonValue adds the value that starts with tok to parent, under name.
func (b *builder) jsonValue(dec *json.Decoder, parent *node, name string, tok json.Token, depth int) error {
	if tok == json.Delim('[') {
		return b.jsonArray(dec, parent, name, depth+1)
	}
	if tok == nil {
		return nil
	}
	n, err := b.add(parent, name)
	if err != nil {
		return err
	}
	switch tok := tok.(type) {
	case json.Delim:
		return b.jsonObject(dec, n, depth+1)
	case string:
		n.text = tok
	case json.Number:
		n.text = tok.String()
	case bool:
		n.text = "0"
		if tok {
			n.text = "1"
		}
	}
	return nil
}

func (b *builder) jsonArray(dec *json.Decoder, parent *node, name string, depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	for {
		tok, err := jsonToken(dec)
		if err != nil || tok == json.Delim(']') {
			return err
		}
		if err := b.jsonValue(dec, parent, name, tok, depth); err != nil {
			return err
		}
	}
}

func jsonToken(dec *json.Decoder) (json.Token, error) {
	tok, err := dec.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("malformed JSON: %w", err)
	}
	return tok, nil
}

// clip shortens what is quoted in errors.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
