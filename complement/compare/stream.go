package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// outcome of a test or subtest; "" means that it did not run.
type outcome string

const (
	pass outcome = "pass"
	skip outcome = "skip"
	fail outcome = "fail"
)

// rank orders outcomes by how good they are.
func (o outcome) rank() int { return map[outcome]int{fail: 1, skip: 2, pass: 3}[o] }

// name of a test: two packages may have tests of the same name.
type name struct{ pkg, test string }

// result of one test in a run.
type result struct {
	outcome outcome
	reason  string // why it was skipped
	output  string // what it printed, without its subtests
}

// event is a line of `go test -json`.
type event struct {
	Action, Package, Test, Output string
}

// run is what the streams of one run say.
type run struct {
	results map[name]*result
	// Packages that ended otherwise than by their tests: they did not compile, panicked or took too long.
	broken map[string]string
	// Packages of which there is a stream.
	packages map[string]bool
}

func newRun() *run {
	return &run{results: map[name]*result{}, broken: map[string]string{}, packages: map[string]bool{}}
}

// read takes in the stream of one package, which is called pkg in the results.
func (r *run) read(pkg string, stream io.Reader) error {
	r.packages[pkg] = true
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, 64<<20) // one line may hold all that a server has logged
	ended, failures := false, 0
	var loose strings.Builder
	for lines.Scan() {
		var event event
		if json.Unmarshal(lines.Bytes(), &event) != nil {
			continue // printed by something else than a test
		}
		if event.Test == "" {
			if event.Action == "output" {
				loose.WriteString(event.Output)
			}
			ended = ended || event.Action == "pass" || event.Action == "fail" || event.Action == "skip"
			if event.Action == "fail" && failures == 0 {
				r.broken[pkg] = lastLines(loose.String(), 3)
			}
			continue
		}
		test := r.at(name{pkg, event.Test})
		switch event.Action {
		case "output":
			test.output += event.Output
		case "pass", "skip", "fail":
			test.outcome = outcome(event.Action)
			if test.outcome == fail {
				failures++
			}
			if test.outcome == skip {
				test.reason = skipReason(test.output)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", pkg, err)
	}
	if !ended {
		r.broken[pkg] = "its stream ends early"
	}
	for id, test := range r.results {
		if id.pkg == pkg && test.outcome == "" { // begun and never ended: a panic or the time limit
			test.outcome = fail
		}
	}
	return nil
}

func (r *run) at(id name) *result {
	if r.results[id] == nil {
		r.results[id] = &result{}
	}
	return r.results[id]
}

var logPrefix = regexp.MustCompile(`^\s*[\w.-]+\.go:\d+: `)

// skipReason is the last thing a skipped test said.
func skipReason(output string) string {
	reason := ""
	for _, line := range strings.Split(output, "\n") {
		if text := logPrefix.ReplaceAllString(line, ""); text != line {
			reason = text
		}
	}
	return strings.Join(strings.Fields(reason), " ")
}

func lastLines(text string, count int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], " / ")
}
