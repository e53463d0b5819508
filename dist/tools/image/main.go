// Command image puts tulle's programs into a container image for several
// architectures, and that into one file in the layout of the Open Container
// Initiative. It needs no registry, no daemon and no privileges, and the same
// programs give the same bytes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image: "+err.Error())
		os.Exit(1)
	}
}

func run(args []string) error {
	var s spec
	fs := flag.NewFlagSet("image", flag.ContinueOnError)
	fs.StringVar(&s.name, "name", "", "what the image is called, with its tag: localhost/tulle:0.1.0")
	fs.StringVar(&s.version, "version", "", "tulle's version")
	fs.StringVar(&s.revision, "revision", "", "the commit that it was built from")
	created := fs.Int64("created", 0, "when it was made, in seconds since 1970; that of the commit, so that the bytes are the same")
	out := fs.String("out", "", "file to write")
	fs.Func("programs", "architecture and folder with its programs, amd64=bin/amd64; for each architecture once", func(text string) error {
		arch, dir, ok := strings.Cut(text, "=")
		if !ok {
			return errors.New("want ARCHITECTURE=FOLDER")
		}
		s.programs = append(s.programs, programs{arch, dir})
		return nil
	})
	if err := fs.Parse(args); err != nil {
		return err
	}
	if s.name == "" || s.version == "" || *out == "" || len(s.programs) == 0 || fs.NArg() > 0 {
		return errors.New("give -name, -version, -out and -programs, and nothing else; see -help")
	}
	s.created = time.Unix(*created, 0).UTC()
	slices.SortFunc(s.programs, func(a, b programs) int { return strings.Compare(a.arch, b.arch) })
	return s.write(*out)
}
