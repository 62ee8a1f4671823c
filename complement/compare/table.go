package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// modes are the columns of the table: whether servers are shared by the tests of a package.
var modes = []string{"dirty", "clean"}

// line of the table.
type line struct {
	outcomes map[string]outcome // by mode
	reason   string
}

// table is the file of accepted results.
type table struct {
	head  []string // comments, without "# "
	lines map[name]*line
}

// readTable reads the file; a missing one is empty.
func readTable(path string) (*table, error) {
	accepted := &table{lines: map[name]*line{}}
	content, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return accepted, nil
	}
	if err != nil {
		return nil, err
	}
	for number, text := range strings.Split(strings.TrimRight(string(content), "\n"), "\n") {
		if comment, found := strings.CutPrefix(text, "#"); found {
			accepted.head = append(accepted.head, strings.TrimSpace(comment))
			continue
		}
		fields := strings.Split(text, "\t")
		if len(fields) != 3+len(modes) {
			return nil, fmt.Errorf("%s:%d: %d fields instead of %d", path, number+1, len(fields), 3+len(modes))
		}
		if fields[0] == "package" {
			continue
		}
		found := &line{outcomes: map[string]outcome{}, reason: fields[len(fields)-1]}
		for column, mode := range modes {
			if text := outcome(fields[2+column]); text.rank() > 0 {
				found.outcomes[mode] = text
			} else if text != "-" {
				return nil, fmt.Errorf("%s:%d: %q is no outcome", path, number+1, text)
			}
		}
		accepted.lines[name{fields[0], fields[1]}] = found
	}
	return accepted, nil
}

// write writes the file, sorted.
func (t *table) write(path string) error {
	var out strings.Builder
	for _, comment := range t.head {
		fmt.Fprintf(&out, "# %s\n", comment)
	}
	fmt.Fprintf(&out, "package\ttest\t%s\treason\n", strings.Join(modes, "\t"))
	for _, id := range sortedNames(t.lines) {
		fmt.Fprintf(&out, "%s\t%s", id.pkg, id.test)
		for _, mode := range modes {
			shown := string(t.lines[id].outcomes[mode])
			if shown == "" {
				shown = "-"
			}
			fmt.Fprintf(&out, "\t%s", shown)
		}
		fmt.Fprintf(&out, "\t%s\n", t.lines[id].reason)
	}
	return os.WriteFile(path, []byte(out.String()), 0o644)
}

// accept takes over the outcomes of a run; in a whole run what it lacks is forgotten.
func (t *table) accept(seen *run, mode string, whole bool) {
	for id, known := range t.lines {
		if whole && seen.packages[id.pkg] && seen.results[id] == nil {
			delete(known.outcomes, mode)
			if len(known.outcomes) == 0 {
				delete(t.lines, id)
			}
		}
	}
	for id, result := range seen.results {
		known := t.lines[id]
		if known == nil {
			known = &line{outcomes: map[string]outcome{}}
			t.lines[id] = known
		}
		known.outcomes[mode] = result.outcome
		known.reason = result.reason
	}
}

// sortedNames are the keys, by package and test.
func sortedNames[V any](names map[name]V) []name {
	return slices.SortedFunc(maps.Keys(names), func(a, b name) int {
		return cmp.Or(cmp.Compare(a.pkg, b.pkg), cmp.Compare(a.test, b.test))
	})
}
