// Package subnet holds the words of tulle: the Network that an operator
// configures, the Leases that nodes hold on parts of it, the Snapshot of both at
// one moment, and the files in which a node keeps what it knows.
//
// All types are values. The package does no network I/O and imports nothing but
// the standard library, so that every other package can speak its words.
package subnet
