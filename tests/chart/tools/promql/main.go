// Command promql parses and evaluates expressions with the code of Prometheus, for the tests of the chart.
//
//	promql metrics <EXPRESSIONS   prints the names of the metrics in expressions, one expression per line
//	promql test <SCRIPT           runs a script with series, expressions and their expected results
//
// Scripts use the test language of Prometheus. An error is printed to standard error, with exit code 1.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 1 {
		return fmt.Errorf("expected one argument, metrics or test, found %q", arguments)
	}
	switch arguments[0] {
	case "metrics":
		return printMetrics(os.Stdin)
	case "test":
		return runScript(os.Stdin)
	default:
		return fmt.Errorf("expected metrics or test, found %q", arguments[0])
	}
}

func printMetrics(input io.Reader) error {
	var names []string
	lines := bufio.NewScanner(input)
	for lines.Scan() {
		expression, err := parser.ParseExpr(lines.Text())
		if err != nil {
			return fmt.Errorf("%s: %w", lines.Text(), err)
		}
		found, err := metrics(expression)
		if err != nil {
			return fmt.Errorf("%s: %w", lines.Text(), err)
		}
		names = append(names, found...)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		fmt.Println(name)
	}
	return lines.Err()
}

// metrics returns the names of all series that an expression selects. A selector without a name is an error, because
// such a selector would select every series.
func metrics(expression parser.Expr) ([]string, error) {
	var names []string
	var problem error
	parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		for _, matcher := range selector.LabelMatchers {
			if matcher.Name == labels.MetricName && matcher.Type == labels.MatchEqual {
				names = append(names, matcher.Value)
				return nil
			}
		}
		problem = fmt.Errorf("%s names no metric", selector)
		return nil
	})
	return names, problem
}

// runScript runs a script as a Go test, because the script runner of Prometheus needs a testing.T. The function exits
// the process, unless the script could not be started.
func runScript(input io.Reader) error {
	script, err := io.ReadAll(input)
	if err != nil {
		return err
	}
	// The testing package prints failures to standard output. They belong on standard error.
	os.Stdout = os.Stderr
	test := testing.InternalTest{Name: "script", F: func(t *testing.T) {
		engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
		promqltest.RunTest(t, string(script), engine)
	}}
	all := func(_, _ string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{test}, nil, nil)
	return nil
}
