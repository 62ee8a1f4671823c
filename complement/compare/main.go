// Compare reads what `go test -json` said of each package and compares it with the accepted results.
//
//	compare -results FILE -mode dirty|clean [-accept] [-all] [-partial] [-report] [-head TEXT]... [-failures FOLDER] PACKAGE=STREAM...
//
// It fails when a test has become worse, is new, or did not run, or when a package broke. A test that
// has become better is told, and stays as it was until the results are accepted.
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// longestFileName is below what file systems allow; subtests can have long names.
const longestFileName = 200

type headFlag []string

func (h *headFlag) String() string     { return strings.Join(*h, "; ") }
func (h *headFlag) Set(v string) error { *h = append(*h, v); return nil }

type options struct {
	results, mode, failures      string
	accept, partial, report, all bool
	head                         headFlag
}

func main() {
	var options options
	flag.StringVar(&options.results, "results", "results.tsv", "the accepted results")
	flag.StringVar(&options.mode, "mode", "dirty", "which column")
	flag.StringVar(&options.failures, "failures", "", "a folder for the output of each failed test")
	flag.BoolVar(&options.accept, "accept", false, "take these results as the accepted ones")
	flag.BoolVar(&options.partial, "partial", false, "only some tests of the packages were asked for")
	flag.BoolVar(&options.all, "all", false, "every package of the accepted results was to run")
	flag.BoolVar(&options.report, "report", false, "count only: this was not the usual set-up")
	flag.Var(&options.head, "head", "a line for the head of the results")
	flag.Parse()
	ok, err := compare(options, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// compare tells whether all is as accepted.
func compare(options options, streams []string) (bool, error) {
	seen := newRun()
	for _, argument := range streams {
		pkg, path, found := strings.Cut(argument, "=")
		if !found {
			return false, fmt.Errorf("%s: PACKAGE=STREAM expected", argument)
		}
		file, err := os.Open(path)
		if err != nil {
			return false, err
		}
		err = seen.read(pkg, file)
		file.Close()
		if err != nil {
			return false, err
		}
	}
	accepted, err := readTable(options.results)
	if err != nil {
		return false, err
	}
	if options.failures != "" {
		if err := writeFailures(seen, options.failures); err != nil {
			return false, err
		}
	}
	fmt.Print(summarize(seen))
	if options.report {
		return true, nil
	}
	bad, good := differences(accepted, seen, options.mode, !options.partial)
	if options.all {
		bad = append(bad, missingPackages(accepted, seen, options.mode)...)
	}
	for _, text := range append(good, bad...) {
		fmt.Println(text)
	}
	if options.accept {
		if len(seen.broken) > 0 {
			return false, fmt.Errorf("a package broke, so these results are not accepted")
		}
		accepted.accept(seen, options.mode, !options.partial)
		if len(options.head) > 0 {
			accepted.head = options.head
		}
		return true, accepted.write(options.results)
	}
	if len(good) > 0 {
		fmt.Println("Some tests have become better; ACCEPT=1 keeps it so.")
	}
	return len(bad) == 0, nil
}

// differences between the accepted results and a run: what is wrong, and what is better.
func differences(accepted *table, seen *run, mode string, whole bool) (bad, good []string) {
	for _, id := range sortedNames(accepted.lines) {
		before := accepted.lines[id].outcomes[mode]
		if before == "" || !seen.packages[id.pkg] {
			continue
		}
		now := seen.results[id]
		switch {
		case now == nil && whole:
			bad = append(bad, fmt.Sprintf("did not run: %s %s (was %s)", id.pkg, id.test, before))
		case now == nil:
		case now.outcome.rank() < before.rank():
			bad = append(bad, fmt.Sprintf("worse: %s %s: %s, was %s", id.pkg, id.test, now.outcome, before))
		case now.outcome.rank() > before.rank():
			good = append(good, fmt.Sprintf("better: %s %s: %s, was %s", id.pkg, id.test, now.outcome, before))
		}
	}
	for _, id := range sortedNames(seen.results) {
		if known := accepted.lines[id]; known == nil || known.outcomes[mode] == "" {
			bad = append(bad, fmt.Sprintf("new: %s %s: %s", id.pkg, id.test, seen.results[id].outcome))
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(seen.broken)) {
		bad = append(bad, fmt.Sprintf("broken: %s: %s", pkg, seen.broken[pkg]))
	}
	return bad, good
}

// missingPackages are those that have accepted results and no stream.
func missingPackages(accepted *table, seen *run, mode string) []string {
	missing := map[string]bool{}
	for id, known := range accepted.lines {
		if known.outcomes[mode] != "" && !seen.packages[id.pkg] {
			missing["did not run: "+id.pkg] = true
		}
	}
	return slices.Sorted(maps.Keys(missing))
}

// counts of outcomes.
type counts map[outcome]int

func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c[pass], c[fail], c[skip])
}

// summarize counts top-level tests and subtests of each package, and the top-level tests of all.
func summarize(seen *run) string {
	var out strings.Builder
	total := counts{}
	for _, pkg := range slices.Sorted(maps.Keys(seen.packages)) {
		tests, subtests := counts{}, counts{}
		for id, result := range seen.results {
			if id.pkg != pkg {
				continue
			}
			if strings.Contains(id.test, "/") {
				subtests[result.outcome]++
			} else {
				tests[result.outcome]++
				total[result.outcome]++
			}
		}
		fmt.Fprintf(&out, "%s: %v; subtests: %v\n", pkg, tests, subtests)
	}
	fmt.Fprintln(&out, total)
	return out.String()
}

// writeFailures writes the output of each failed test to a file of its own.
func writeFailures(seen *run, folder string) error {
	for _, id := range sortedNames(seen.results) {
		result := seen.results[id]
		if result.outcome != fail {
			continue
		}
		file := strings.NewReplacer("/", "_", " ", "_").Replace(id.pkg + "." + id.test)
		if len(file) > longestFileName {
			file = file[:longestFileName]
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, file+".txt"), []byte(result.output), 0o644); err != nil {
			return err
		}
	}
	return nil
}
