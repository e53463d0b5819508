// Package backend holds the wanted kernel state as a value.
//
// A Backend computes a State, a set of Entries, from leases. Diff compares it
// with what the kernel holds, and the Reconciler applies the difference, again
// and again, so that the kernel stays as wanted whatever happens to it. Nothing
// in this package does I/O; the kernel is behind the Kernel interface.
package backend
