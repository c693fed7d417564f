// Package e2e holds the end-to-end tests: everything in one process, through the
// front door, on files and on real services alike.
package e2e
