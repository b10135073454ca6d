// Command promql lets the tests of the chart ask Prometheus itself about expressions.
//
//	promql metrics <EXPRESSIONS   prints the names of the metrics in expressions, one expression a line
//	promql test <SCRIPT           runs a script of series and of what expressions yield on them
//
// Scripts are in the language of Prometheus' own tests. What is wrong goes to standard error, with exit code 1.
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

// metrics returns the names of all series that an expression selects. A selector without a name is an error: it
// would select anything.
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

// runScript runs a script as a test of Go's, which Prometheus' language of scripts wants to be run in. It ends the
// process, unless it could not begin.
func runScript(input io.Reader) error {
	script, err := io.ReadAll(input)
	if err != nil {
		return err
	}
	// What fails is printed there.
	os.Stdout = os.Stderr
	test := testing.InternalTest{Name: "script", F: func(t *testing.T) {
		engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
		promqltest.RunTest(t, string(script), engine)
	}}
	all := func(_, _ string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{test}, nil, nil)
	return nil
}
