package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/containernetworking/cni/pkg/types"

	"tulle/subnet"
)

// coded gives an error one of the specification's codes. Errors without a code
// reach the runtime as 999, "internal".
func coded(code uint, err error) error {
	return types.NewError(code, err.Error(), "")
}

// answered is an error as the runtime hears it: with a code, and whole. The library takes
// the first that has a code out of several, and drops the others.
func answered(err error) error {
	if _, ok := err.(*types.Error); ok || err == nil {
		return err
	}
	return coded(codeOf(err), err)
}

// refuse ends the program with an error in the form of the specification. The library's
// has no cniVersion; that is empty where the configuration was not read.
func refuse(err *types.Error, cniVersion string) {
	text, _ := json.MarshalIndent(struct {
		CNIVersion string `json:"cniVersion,omitempty"`
		*types.Error
	}{cniVersion, err}, "", "    ")
	if _, failed := os.Stdout.Write(text); failed != nil {
		fmt.Fprintf(os.Stderr, "%s; and telling the runtime: %s\n", err, failed)
	}
	os.Exit(1)
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
