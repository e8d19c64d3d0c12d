// Writes what Kubernetes itself makes of many texts as quantities: a table that src/wire/quantity.rs is
// compared with. `go run . > ../quantity.tsv`
package main

import (
	"bufio"
	_ "embed"
	"fmt"
	"math/big"
	"math/rand"
	"os"
	"strings"

	"gopkg.in/inf.v0"
	"k8s.io/apimachinery/pkg/api/resource"
)

// By hand: one text a line.
//
//go:embed texts.txt
var byHand string

const generated = 2000

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	fmt.Fprintln(out, "# text, then its MilliValue, and its canonical form with decimal suffixes; by tests/wire/quantity, apimachinery 0.36.3")
	seen := map[string]bool{}
	tell := func(text string) {
		if !seen[text] {
			seen[text] = true
			fmt.Fprintf(out, "%s\t%s\n", text, judge(text))
		}
	}
	for _, text := range strings.Split(strings.TrimSuffix(byHand, "\n"), "\n") {
		tell(text)
	}
	random := rand.New(rand.NewSource(20261130))
	for len(seen) < generated {
		tell(text(random))
	}
}

// MilliValue wraps around beyond 64 bits: such a number is only large. Of a negative number it wraps earlier, and rounds a rest
// of -1.0000000001 to -999, so that the positive one is asked. Beyond the largest suffix a text loses its zeros, so that it
// does not mean the same: it is lost.
func judge(text string) string {
	quantity, err := resource.ParseQuantity(text)
	if err != nil {
		return "refused\trefused"
	}
	milli := "large"
	amount := new(inf.Dec).Set(quantity.AsDec())
	size := new(inf.Dec).Abs(amount)
	if size.Cmp(inf.NewDecBig(big.NewInt(9_223_372_036_854_775), 0)) <= 0 {
		positive := resource.NewDecimalQuantity(*size, resource.DecimalSI)
		milli = fmt.Sprint(positive.MilliValue())
		if amount.Sign() < 0 {
			milli = "-" + milli
		}
	}
	canonical := resource.NewDecimalQuantity(*amount, resource.DecimalSI).String()
	if again, err := resource.ParseQuantity(canonical); err != nil || again.Cmp(quantity) != 0 {
		canonical = "lost"
	}
	return milli + "\t" + canonical
}

func pick(random *rand.Rand, options ...string) string {
	return options[random.Intn(len(options))]
}

func digits(random *rand.Rand, most int) string {
	var text strings.Builder
	for range random.Intn(most + 1) {
		text.WriteString(pick(random, "0", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "000"))
	}
	return text.String()
}

// A text that is probably a quantity.
func text(random *rand.Rand) string {
	number := digits(random, length(random))
	if random.Intn(3) == 0 {
		number += "." + digits(random, length(random))
	}
	suffix := pick(random, "", "", "n", "u", "m", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
	switch random.Intn(8) {
	case 0, 1:
		suffix = pick(random, "e", "E") + pick(random, "", "+", "-") + pick(random, "0", "1", "2", "3", "5", "6", "8", "9", "12", "18", "19", "24", "007", "40")
	case 2:
		// Most of these are no suffixes.
		suffix = pick(random, "K", "ki", "g", "mi", "ni", "B", "KiB", "e", "E+", "e-", "e1.5", "EE", "e3m", "Eim", "i", "mm", "e++1", "ä", " ", "d", "h")
	}
	whole := pick(random, "", "", "", "", "-", "-", "+", "--", "+-") + number + suffix
	if random.Intn(20) == 0 {
		at := random.Intn(len(number) + 1)
		whole = number[:at] + pick(random, " ", ".", "-", "+", ",", "_", "x", "e", "0") + number[at:] + suffix
	}
	return whole
}

// The most digits of a number: few, as people write them, or many.
func length(random *rand.Rand) int {
	return []int{2, 3, 4, 6, 10, 16, 20, 30}[random.Intn(8)]
}
