// Package operation is what the CNI plugin tells the daemon of its work: one
// datagram for each operation, sent without waiting and never needed.
package operation

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Operation is one call of the plugin by a container runtime.
type Operation struct {
	Verb string // one of Verbs
	Code uint   // of the CNI specification; 0: it succeeded
	Took time.Duration
}

// Verbs are those that are told of.
var Verbs = []string{"ADD", "DEL", "CHECK", "GC", "STATUS"}

// Most is more than the length of any datagram.
const Most = 64

// form is the word that a datagram begins with. It changes when the rest does.
const form = "1"

// Socket is the daemon's, beside the subnet file: whoever knows the one knows the
// other, and daemons of several networks do not meet. It is a path and no abstract name, so that it can be reached from
// another network namespace.
func Socket(subnetFile string) string { return subnetFile + ".sock" }

// String is the datagram.
func (o Operation) String() string {
	return fmt.Sprintf("%s %s %d %d", form, o.Verb, o.Code, o.Took.Microseconds())
}

// Parse is the other way round. It takes nothing that String does not make.
func Parse(datagram string) (Operation, error) {
	words := strings.Split(datagram, " ")
	if len(words) != 4 || words[0] != form {
		return Operation{}, fmt.Errorf("%q does not tell of an operation", datagram)
	}
	if !slices.Contains(Verbs, words[1]) {
		return Operation{}, fmt.Errorf("%q is no verb", words[1])
	}
	code, err := strconv.ParseUint(words[2], 10, 16)
	if err != nil {
		return Operation{}, fmt.Errorf("code: %w", err)
	}
	took, err := strconv.ParseUint(words[3], 10, 40)
	if err != nil {
		return Operation{}, fmt.Errorf("duration: %w", err)
	}
	o := Operation{words[1], uint(code), time.Duration(took) * time.Microsecond}
	if o.String() != datagram {
		return Operation{}, fmt.Errorf("%q is not written as it should be", datagram)
	}
	return o, nil
}
