package wechattest

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// kind of a field in a pushed document.
type kind int

const (
	textField   kind = iota // CDATA in XML, a string in JSON
	numberField             // bare digits
	groupField              // a structure
	listField               // ResultList: any number of <item>
	repeatField             // the same element several times; an array in JSON
)

// field is one element of a pushed document. The same tree is written as XML or
// as JSON, as the account has chosen.
type field struct {
	name   string
	kind   kind
	text   string
	fields []field // of a group; of a list, one group per item; of a repetition, all of the same name
}

func text(name, value string) field { return field{name: name, kind: textField, text: value} }
func number(name string, value int64) field {
	return field{name: name, kind: numberField, text: strconv.FormatInt(value, 10)}
}
func group(name string, fs ...field) field { return field{name: name, kind: groupField, fields: fs} }
func list(name string, items ...field) field {
	return field{name: name, kind: listField, fields: items}
}

// Style is how a document is written where WeChat itself varies, or where
// nobody could say how WeChat does it.
type Style struct {
	// Compact leaves out the line breaks that real XML pushes have between
	// elements.
	Compact bool `json:"compact,omitempty"`
	// Quoted writes JSON numbers as strings.
	Quoted bool `json:"quoted,omitempty"`
	// List is the shape of a JSON ResultList.
	List ListShape `json:"list,omitempty"`
}

// ListShape is the shape of a ResultList in JSON. No official sample exists.
type ListShape string

// The shapes that a converter from XML to JSON may produce.
const (
	ListOfItems ListShape = "items"  // {"item": [{…}, …]}
	ListBare    ListShape = "bare"   // [{…}, …]
	ListSingle  ListShape = "single" // {"item": {…}} when there is just one, else as ListOfItems
)

// writeDocument renders the fields of a push.
func writeDocument(f Format, s Style, fields []field) []byte {
	var b bytes.Buffer
	if f == JSON {
		writeJSONObject(&b, s, fields)
		return b.Bytes()
	}
	b.WriteString("<xml>")
	for i, f := range fields {
		if i > 0 && !s.Compact {
			b.WriteByte('\n')
		}
		writeXML(&b, s, f)
	}
	if !s.Compact {
		b.WriteByte('\n')
	}
	b.WriteString("</xml>")
	return b.Bytes()
}

func writeXML(b *bytes.Buffer, s Style, f field) {
	if f.kind == repeatField {
		for _, child := range f.fields {
			writeXML(b, s, child)
		}
		return
	}
	b.WriteString("<" + f.name + ">")
	switch f.kind {
	case textField:
		b.WriteString(cdata(f.text))
	case numberField:
		b.WriteString(f.text)
	case groupField, listField:
		for i, child := range f.fields {
			// Real pushes break the line between the first children of a
			// structure and not elsewhere; what matters is that text nodes stand
			// between elements.
			if i == 1 && !s.Compact {
				b.WriteByte('\n')
			}
			writeXML(b, s, child)
		}
	}
	b.WriteString("</" + f.name + ">")
}

// cdata quotes text; the end mark cannot stand inside and is split over two
// sections.
func cdata(s string) string {
	return "<![CDATA[" + strings.ReplaceAll(s, "]]>", "]]]]><![CDATA[>") + "]]>"
}

func writeJSONObject(b *bytes.Buffer, s Style, fields []field) {
	b.WriteByte('{')
	for i, f := range fields {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Quote(f.name) + ":")
		writeJSON(b, s, f)
	}
	b.WriteByte('}')
}

func writeJSON(b *bytes.Buffer, s Style, f field) {
	switch f.kind {
	case textField:
		b.Write(jsonString(f.text))
	case numberField:
		if s.Quoted {
			b.WriteString(strconv.Quote(f.text))
			return
		}
		b.WriteString(f.text)
	case groupField:
		writeJSONObject(b, s, f.fields)
	case listField:
		writeJSONList(b, s, f.fields)
	case repeatField:
		writeJSONArray(b, s, f.fields)
	}
}

func writeJSONList(b *bytes.Buffer, s Style, items []field) {
	if s.List == ListSingle && len(items) == 1 {
		b.WriteString(`{"item":`)
		writeJSONObject(b, s, items[0].fields)
		b.WriteByte('}')
		return
	}
	if s.List != ListBare {
		b.WriteString(`{"item":`)
		defer b.WriteByte('}')
	}
	writeJSONArray(b, s, items)
}

func writeJSONArray(b *bytes.Buffer, s Style, items []field) {
	b.WriteByte('[')
	for i, item := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		writeJSON(b, s, item)
	}
	b.WriteByte(']')
}

// jsonString quotes text as WeChat does: Chinese and < > & stay as they are.
func jsonString(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("wechattest: a string is always encodable: " + err.Error())
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}
