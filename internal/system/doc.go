// Package system tests the packages on hosts that boot with systemd: systemd-nspawn
// runs each on a file system made by mmdebstrap, in network namespaces that a
// bridge connects. Nothing of the machine's own network, and no file of it but
// those of a cache, is touched.
package system
