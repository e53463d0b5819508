package backend

// Refused are the changes that an error of Kernel.Apply names.
func Refused(err error) []Change {
	switch e := err.(type) {
	case *ChangeError:
		return []Change{e.Change}
	case interface{ Unwrap() []error }:
		var all []Change
		for _, one := range e.Unwrap() {
			all = append(all, Refused(one)...)
		}
		return all
	case interface{ Unwrap() error }:
		return Refused(e.Unwrap())
	}
	return nil
}
