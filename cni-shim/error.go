package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/containernetworking/cni/pkg/types"

	"tulle/subnet"
)

// coded gives an error one of the specification's codes. Errors without a code
// reach the runtime as 999, "internal".
func coded(code uint, err error) error {
	return types.NewError(code, err.Error(), "")
}

// readSubnetFile reads the subnet file; absent is the code under which its
// absence is told.
func readSubnetFile(path string, absent uint) (subnet.File, error) {
	f, err := subnet.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, coded(absent, fmt.Errorf("no subnet file at %s: this node has no pod subnet yet; "+
			"start tulled, or ask `tullectl status` what it waits for", path))
	case err != nil:
		return f, coded(absent, fmt.Errorf("%w; tulled writes this file anew when it starts", err))
	}
	return f, nil
}

// then adds what went wrong while the consequences of err were undone. The code
// stays that of err.
func then(err, undo error) error {
	if undo == nil {
		return err
	}
	return coded(codeOf(err), fmt.Errorf("%w; and taking back what was done: %w", err, undo))
}
