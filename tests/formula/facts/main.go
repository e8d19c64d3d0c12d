// Writes what expr-lang, which KEDA evaluates formulas with, makes of many expressions: a table that
// the formulas here are compared with. `go run . > ../facts.tsv`
package main

import (
	"bufio"
	_ "embed"
	"fmt"
	"math"
	"math/rand"
	"os"
	"strconv"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
)

// By hand: one expression a line.
//
//go:embed expressions.txt
var byHand string

const generated = 1100

var (
	dummies = map[string]float64{"a": -1, "b": -1, "c": -1}
	rows    = []map[string]any{
		{"a": 3.0, "b": 2.5, "c": nil},
		{"a": 0.0, "b": 500.0, "c": 20.125},
	}
)

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	fmt.Fprintln(out, "# expression, then its result for a=3 b=2.5 c=nil and for a=0 b=500 c=20.125; by tests/formula/facts, expr 1.17.8")
	seen := map[string]bool{}
	tell := func(text string) {
		if text == "" || seen[text] {
			return
		}
		seen[text] = true
		if results, overflows := judge(text); !overflows {
			fmt.Fprintf(out, "%s\t%s\n", text, strings.Join(results, "\t"))
		}
	}
	for _, text := range strings.Split(byHand, "\n") {
		tell(text)
	}
	random := rand.New(rand.NewSource(20260820))
	for range generated {
		tell(number(random, 1+random.Intn(3), false))
	}
}

// As KEDA does it: a result that is no float is made one, and nil stays nil where ?? is used. Around a
// formula that spans lines, comments included, the parentheses stand on lines of their own.
//
// Whole numbers that overflow wrap around in expr and are errors in hpalite: nothing to compare.
func judge(text string) (results []string, overflows bool) {
	wrapped := "float(" + text + "\n)"
	if strings.Contains(text, "??") {
		wrapped = "let result = (" + text + "\n); result == nil ? nil : float(result)"
	}
	program, err := expr.Compile(wrapped, expr.Env(dummies))
	if err != nil {
		return []string{"refused", "refused"}, false
	}
	if _, err := vm.Run(program, dummies); err != nil {
		return []string{"refused", "refused"}, false
	}
	for _, row := range rows {
		result, err := vm.Run(program, row)
		switch number, is := result.(float64); {
		case is && math.Abs(number) > 1e18 && strings.Contains(text, "int("):
			return nil, true
		case err != nil, is && (math.IsNaN(number) || math.IsInf(number, 0)):
			results = append(results, "error")
		case result == nil:
			results = append(results, "nil")
		default:
			results = append(results, strconv.FormatFloat(number, 'g', -1, 64))
		}
	}
	return results, false
}

func pick(random *rand.Rand, options ...string) string {
	return options[random.Intn(len(options))]
}

// An expression that is probably a number; within a closure it may use the element.
func number(random *rand.Rand, depth int, inside bool) string {
	if depth == 0 {
		if inside && random.Intn(2) == 0 {
			return "#"
		}
		return pick(random, "a", "b", "c", "a", "b", "1", "2", "0.5", "10", "c", "3")
	}
	sub := func() string { return number(random, random.Intn(depth), inside) }
	switch random.Intn(18) {
	case 0, 1, 2, 3:
		return sub() + pick(random, " + ", " - ", " * ", " / ", " ** ") + sub()
	case 4, 5:
		return "(" + sub() + pick(random, " + ", " - ", " * ", " / ", " ?? ", " ^ ") + sub() + ")"
	case 6:
		return condition(random, depth-1, inside) + " ? " + sub() + " : " + sub()
	case 7:
		return "if " + condition(random, depth-1, inside) + " {" + sub() + "} else {" + sub() + "}"
	case 8:
		return pick(random, "abs", "ceil", "floor", "round", "int", "float") + "(" + sub() + ")"
	case 9:
		return pick(random, "min", "max", "mean", "median") + "(" + sub() + ", " + sub() + ")"
	case 10:
		return pick(random, "min", "max", "mean", "median", "sum", "len", "first", "last") + "(" + array(random, depth-1, inside) + ")"
	case 11:
		// Without findLast, which leaves rubbish on expr's stack when it stands on the right of an operator.
		return pick(random, "sum", "count", "find", "findIndex") + "(" + array(random, depth-1, inside) + ", " + condition(random, depth-1, true) + ")"
	case 12:
		return "reduce(" + array(random, depth-1, inside) + ", #acc + " + number(random, depth-1, true) + ", " + number(random, depth-1, false) + ")"
	case 13:
		return pick(random, "-", "+", "-") + sub()
	case 14:
		return sub() + " ?? " + sub()
	case 15:
		return "int(" + sub() + ") % 3"
	case 16:
		return "sum(" + array(random, depth-1, inside) + ", " + number(random, depth-1, true) + ")"
	default:
		return array(random, depth-1, inside) + "[" + pick(random, "0", "1", "-1", "int(a)", "5") + "]"
	}
}

func condition(random *rand.Rand, depth int, inside bool) string {
	sub := func() string { return number(random, max(depth, 0), inside) }
	switch random.Intn(9) {
	case 0, 1, 2, 3:
		return sub() + pick(random, " > ", " < ", " >= ", " <= ", " == ", " != ") + sub()
	case 4:
		return sub() + " < " + sub() + " <= " + sub()
	case 5:
		return pick(random, "!", "not ") + "(" + sub() + " > " + sub() + ")"
	case 6:
		return sub() + " > 1" + pick(random, " and ", " or ", " && ", " || ") + sub() + " < 4"
	case 7:
		return sub() + pick(random, " in ", " not in ") + array(random, max(depth, 0), inside)
	default:
		return pick(random, "any", "all", "none", "one") + "(" + array(random, max(depth, 0), inside) + ", # > " + sub() + ")"
	}
}

func array(random *rand.Rand, depth int, inside bool) string {
	if depth <= 0 {
		return pick(random, "[a, b]", "[1, 2, 3]", "[a, 1]", "[]", "1..3", "[b, c]", "[2.5, 0.5, 1.5]", "[a, b, 1, 2]")
	}
	sub := func() string { return number(random, depth-1, inside) }
	switch random.Intn(5) {
	case 0:
		return "[" + sub() + ", " + sub() + "]"
	case 1:
		return "map(" + array(random, depth-1, inside) + ", " + number(random, depth-1, true) + ")"
	case 2:
		return "filter(" + array(random, depth-1, inside) + ", " + condition(random, depth-1, true) + ")"
	case 3:
		return "[[" + sub() + "], " + sub() + "]"
	default:
		return array(random, depth-1, inside)
	}
}
