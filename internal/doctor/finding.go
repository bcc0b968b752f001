package doctor

import (
	"fmt"
	"strings"
)

// Severity says how bad a finding is.
type Severity string

// The severities, from good to bad.
const (
	OK        Severity = "ok"
	Unchecked Severity = "unchecked" // it could not be looked at; the text says why
	Warning   Severity = "warning"   // it works, and should be seen to
	Failure   Severity = "failure"   // it does not work, or something is missing
)

// Severities lists every severity, from good to bad.
func Severities() []Severity { return []Severity{OK, Unchecked, Warning, Failure} }

// Finding is what a check found.
type Finding struct {
	Area     string   `json:"area"`              // one of the Area constants
	Check    string   `json:"check"`             // name of the check, such as callback.certificate
	Subject  string   `json:"subject,omitempty"` // what it is about: an appid, a host, a topic; empty: the whole
	Severity Severity `json:"severity"`
	Checked  string   `json:"checked"`          // what was looked at
	Found    string   `json:"found"`            // what was found
	Remedy   string   `json:"remedy,omitempty"` // what to do about it
	Doc      string   `json:"doc,omitempty"`    // where more about it is written
}

// Count returns how many findings there are of each severity, 0 included.
func Count(findings []Finding) map[Severity]int {
	n := map[Severity]int{}
	for _, s := range Severities() {
		n[s] = 0
	}
	for _, f := range findings {
		n[f.Severity]++
	}
	return n
}

// hidden stands where a secret was.
const hidden = "<secret>"

// Redact takes secrets out of findings. No check should put one in; this is for
// the error of a library that quotes what it was given. Short ones are left:
// without them texts could not be read, and they would not be found in them.
func Redact(findings []Finding, secrets []string) {
	const shortest = 8
	var pairs []string
	for _, s := range secrets {
		if len(s) >= shortest {
			pairs = append(pairs, s, hidden)
		}
	}
	r := strings.NewReplacer(pairs...)
	for i := range findings {
		f := &findings[i]
		for _, text := range []*string{&f.Subject, &f.Checked, &f.Found, &f.Remedy} {
			*text = r.Replace(*text)
		}
	}
}

// Result takes what a check finds. Its methods take the remedy first.
type Result struct {
	check Check
	list  *[]Finding
}

// About returns a Result for findings about another subject than the check's.
func (r Result) About(subject string) Result {
	r.check.Subject = subject
	return r
}

// See returns a Result for findings about which more is written elsewhere than
// the check says.
func (r Result) See(doc string) Result {
	r.check.Doc = doc
	return r
}

// OK adds that something is as it should be.
func (r Result) OK(format string, args ...any) { r.add(OK, "", format, args) }

// Unchecked adds that something could not be looked at.
func (r Result) Unchecked(remedy, format string, args ...any) {
	r.add(Unchecked, remedy, format, args)
}

// Warn adds something that should be seen to.
func (r Result) Warn(remedy, format string, args ...any) { r.add(Warning, remedy, format, args) }

// Fail adds something that does not work.
func (r Result) Fail(remedy, format string, args ...any) { r.add(Failure, remedy, format, args) }

// None tells whether nothing was added yet.
func (r Result) None() bool { return len(*r.list) == 0 }

func (r Result) add(s Severity, remedy, format string, args []any) {
	f := Finding{
		Area: r.check.Area, Check: r.check.ID, Subject: r.check.Subject, Severity: s, Checked: r.check.What,
		Found: oneLine(fmt.Sprintf(format, args...)), Remedy: remedy, Doc: r.check.Doc,
	}
	if s == OK {
		f.Doc = ""
	}
	*r.list = append(*r.list, f)
}

// oneLine keeps what others have written from breaking the list into pieces.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
