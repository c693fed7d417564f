//go:build unix

package wire

import "syscall"

// supported says that it can be seen whether a server has closed a connection.
const supported = true

// look reads without waiting. A server says nothing until it is asked, so that
// whatever there is, the end too, makes the connection useless.
func (c *conn) look(fd uintptr) bool {
	var b [1]byte
	_, err := syscall.Read(int(fd), b[:]) //nolint:gosec // it is one
	c.silent = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
	return true
}
