package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stream is what `go test -json` says of tests, given as "action test" each, of a package that ends well.
func stream(steps ...string) string {
	var out strings.Builder
	end := "pass"
	for _, step := range steps {
		action, test, _ := strings.Cut(step, " ")
		if action == "skip" {
			fmt.Fprintf(&out, `{"Action":"output","Test":%q,"Output":"    some_test.go:12: not  for\tus\n"}`+"\n", test)
		}
		if action == "fail" {
			end = "fail"
		}
		fmt.Fprintf(&out, `{"Action":%q,"Test":%q}`+"\n", action, test)
	}
	return out.String() + fmt.Sprintf(`{"Action":%q}`+"\n", end)
}

func runOf(t *testing.T, pkg, stream string) *run {
	t.Helper()
	seen := newRun()
	if err := seen.read(pkg, strings.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	return seen
}

// tableOf has one package with these results, accepted in the dirty mode.
func tableOf(t *testing.T, steps ...string) *table {
	t.Helper()
	accepted := &table{lines: map[name]*line{}}
	accepted.accept(runOf(t, "p", stream(steps...)), "dirty", true)
	return accepted
}

func TestDifferencesAreFound(t *testing.T) {
	accepted := tableOf(t, "pass TestA", "pass TestA/b", "fail TestC", "skip TestD")
	cases := []struct{ steps, bad, good string }{
		{"pass TestA,pass TestA/b,fail TestC,skip TestD", "", ""},
		{"fail TestA,fail TestA/b,fail TestC,skip TestD", "worse: p TestA: fail, was pass|worse: p TestA/b: fail, was pass", ""},
		{"pass TestA,skip TestA/b,fail TestC,skip TestD", "worse: p TestA/b: skip, was pass", ""},
		{"pass TestA,fail TestC,skip TestD", "did not run: p TestA/b (was pass)", ""},
		{"pass TestA,pass TestA/b,pass TestC,pass TestD", "", "better: p TestC: pass, was fail|better: p TestD: pass, was skip"},
		{"pass TestA,pass TestA/b,fail TestC,skip TestD,pass TestE", "new: p TestE: pass", ""},
	}
	for _, c := range cases {
		bad, good := differences(accepted, runOf(t, "p", stream(strings.Split(c.steps, ",")...)), "dirty", true)
		if got := strings.Join(bad, "|"); got != c.bad {
			t.Errorf("%s: bad %q, wanted %q", c.steps, got, c.bad)
		}
		if got := strings.Join(good, "|"); got != c.good {
			t.Errorf("%s: good %q, wanted %q", c.steps, got, c.good)
		}
	}
}

func TestModesAndPackagesAreKeptApart(t *testing.T) {
	accepted := tableOf(t, "pass TestA")
	if bad, _ := differences(accepted, runOf(t, "q", stream("pass TestA")), "dirty", true); len(bad) != 1 {
		t.Errorf("TestA of another package is another test: %v", bad)
	}
	if bad, _ := differences(accepted, runOf(t, "p", stream("pass TestA")), "clean", true); len(bad) != 1 {
		t.Errorf("nothing is accepted in the clean mode: %v", bad)
	}
	if bad, _ := differences(accepted, runOf(t, "p", stream()), "dirty", false); len(bad) != 0 {
		t.Errorf("a partial run need not hold all tests: %v", bad)
	}
}

func TestMissingPackagesAreFound(t *testing.T) {
	accepted := tableOf(t, "pass TestA")
	other := runOf(t, "q", stream("pass TestA"))
	if missing := missingPackages(accepted, other, "dirty"); len(missing) != 1 || missing[0] != "did not run: p" {
		t.Errorf("p did not run: %v", missing)
	}
	if missing := missingPackages(accepted, other, "clean"); len(missing) != 0 {
		t.Errorf("p was not to run: %v", missing)
	}
}

func TestBrokenPackagesAndUnfinishedTestsFail(t *testing.T) {
	unfinished := runOf(t, "p", `{"Action":"run","Test":"TestA"}`+"\n")
	if unfinished.results[name{"p", "TestA"}].outcome != fail || unfinished.broken["p"] == "" {
		t.Errorf("an unfinished test counts as failed: %+v", unfinished)
	}
	uncompiled := runOf(t, "p", "# p\nx.go:1: no\n"+`{"Action":"output","Output":"FAIL p [build failed]\n"}`+"\n"+`{"Action":"fail"}`+"\n")
	if !strings.Contains(uncompiled.broken["p"], "build failed") {
		t.Errorf("a package that does not compile is broken: %v", uncompiled.broken)
	}
	if broken := runOf(t, "p", stream("fail TestA")).broken; len(broken) != 0 {
		t.Errorf("a failed test does not break its package: %v", broken)
	}
}

func TestAcceptedResultsAreWrittenAndReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.tsv")
	accepted := tableOf(t, "pass TestB", "skip TestA", "pass TestGone")
	accepted.head = []string{"Complement v1"}
	accepted.accept(runOf(t, "p", stream("fail TestB", "skip TestA")), "dirty", true)
	accepted.accept(runOf(t, "p", stream("pass TestB")), "clean", false)
	if err := accepted.write(path); err != nil {
		t.Fatal(err)
	}
	wanted := "# Complement v1\npackage\ttest\tdirty\tclean\treason\np\tTestA\tskip\t-\tnot for us\np\tTestB\tfail\tpass\t\n"
	if content, _ := os.ReadFile(path); string(content) != wanted {
		t.Errorf("written:\n%s", content)
	}
	again, err := readTable(path)
	if err != nil || len(again.lines) != 2 || again.head[0] != "Complement v1" {
		t.Errorf("read again: %+v %v", again, err)
	}
	if err := os.WriteFile(path, []byte("p\tTestA\tsometimes\t-\t\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readTable(path); err == nil {
		t.Error("a line with an unknown outcome is read")
	}
}
