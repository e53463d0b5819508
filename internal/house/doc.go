// Package house holds the rules of the whole project as tests: who imports
// whom, and that the documentation says what the programs do.
package house
