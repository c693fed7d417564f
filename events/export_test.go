package events

import (
	"encoding/binary"
	"hash/crc32"
)

// Reseal gives harmed bytes a right checksum.
func Reseal(b []byte) {
	binary.BigEndian.PutUint32(b[offSum:], crc32.Checksum(b[offFirst:], castagnoli))
}
