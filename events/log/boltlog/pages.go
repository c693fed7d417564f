package boltlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/bits"
)

// bbolt maps its file into memory and believes what stands there: a harmed page
// ends the process, in a goroutine where nobody can catch it, and a page that is
// missing at the end of the file does so with a signal. So the pages are checked
// before bbolt sees them, by reading them as files are read. The layout is that
// of go.etcd.io/bbolt v1 (internal/common: page.go, meta.go, bucket.go), integers
// in the machine's byte order:
//
//	page    id 8, flags 2, count 2, overflow 4, then count elements, then keys and values
//	branch  element: pos 4, ksize 4, child page 8; the key is pos bytes behind the element
//	leaf    element: flags 4, pos 4, ksize 4, vsize 4; the value follows the key
//	meta    magic 4, version 4, page size 4, flags 4, root bucket 16, freelist 8,
//	        high-water mark 8, transaction 8, FNV-1a of all that 8
//	bucket  root page 8, sequence 8; if the root is 0, its one leaf page follows
//
// A page with an overflow goes on over that many pages more. Of the two meta
// pages, the valid one of the later transaction counts.
const (
	pageHeader   = 16
	elementSize  = 16
	metaSize     = 64
	metaSummed   = 56
	bucketHeader = 16

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10
	flagBucket   = 0x01 // of a leaf element

	boltMagic   = 0xED0CDAED
	boltVersion = 2
	noFreelist  = 1<<64 - 1

	// minPageSize and maxPageSize are those that bbolt looks for.
	minPageSize, maxPageSize = 1 << 10, 1 << 24
	// maxKey is bbolt's own bound of a key.
	maxKey = 32768
	// maxDepth is deeper than any tree of pages that a disk can hold.
	maxDepth = 64
	// manyInList is the count that says that a freelist's length stands in its
	// first element.
	manyInList = 0xffff
)

var native = binary.NativeEndian

// Fault is a harmed page.
type Fault struct {
	// Page is the page's number, counted from 0.
	Page uint64
	// Offset is where in the file it begins, in bytes.
	Offset int64
	// Bucket is what the page was to hold a part of, as far as is known.
	Bucket  string
	Message string

	// Survived says that the file can be used all the same: a meta page is harmed,
	// and the other one makes up for it.
	Survived bool
}

func (f Fault) String() string {
	of := ""
	if f.Bucket != "" {
		of = " of bucket " + f.Bucket
	}
	return fmt.Sprintf("page %d%s, from byte %d on: %s", f.Page, of, f.Offset, f.Message)
}

type meta struct {
	pageSize              int64
	root, freelist, pages uint64 // pages is the high-water mark
	transaction           uint64
}

// pageFile is a bbolt file that is read page by page.
type pageFile struct {
	r    io.ReaderAt
	size int64
	meta meta

	report  func(Fault)
	within  string   // the outermost bucket that is walked through
	seen    []uint64 // a bit for each page that was reached
	stopped bool     // the visitor wants no more
}

// errImpossible says that a meta page is whole and speaks of what cannot be. bbolt
// would believe it.
var errImpossible = errors.New("impossible")

// openPages finds the meta page that counts. The error says that there is none,
// or that the file is shorter than it says.
func openPages(r io.ReaderAt, size int64, report func(Fault)) (*pageFile, error) {
	f := &pageFile{r: r, size: size, report: report}
	first, err0 := f.readMeta(0)
	findSecond := f.findSecondMeta
	if err0 == nil {
		findSecond = func() (meta, error) { return f.readMeta(first.pageSize) }
	}
	second, err1 := findSecond()
	switch {
	case err0 != nil && err1 != nil, errors.Is(err0, errImpossible), errors.Is(err1, errImpossible):
		return nil, fmt.Errorf("%w: it has %d bytes and no meta pages to go by: the first: %w; the second: %w", ErrDamaged, size, orNone(err0), orNone(err1))
	case err0 != nil:
		f.meta = second
		f.survive(0, "%v; the other meta page, of transaction %d, counts", err0, second.transaction)
	case err1 != nil:
		f.meta = first
		f.survive(1, "%v; the other meta page, of transaction %d, counts", err1, first.transaction)
	case second.transaction > first.transaction:
		f.meta = second
	default:
		f.meta = first
	}
	f.metaHeaders()
	if need := f.need(); size < need {
		return f, fmt.Errorf("it has %d bytes, its pages need %d (%d pages of %d bytes, says the meta page of transaction %d): %d bytes are cut off",
			size, need, f.meta.pages, f.meta.pageSize, f.meta.transaction, need-size)
	}
	return f, nil
}

func orNone(err error) error {
	if err == nil {
		return errors.New("is valid")
	}
	return err
}

// need is how many bytes the file must have.
func (f *pageFile) need() int64 { return int64(f.meta.pages) * f.meta.pageSize } //nolint:gosec // checked by readMeta

func (f *pageFile) readMeta(at int64) (meta, error) {
	var b [pageHeader + metaSize]byte
	if at+int64(len(b)) > f.size {
		return meta{}, errors.New("the file ends before it")
	}
	if _, err := f.r.ReadAt(b[:], at); err != nil {
		return meta{}, err
	}
	m := b[pageHeader:]
	if magic := native.Uint32(m); magic != boltMagic {
		return meta{}, fmt.Errorf("its magic number is %08x, not %08x", magic, uint32(boltMagic))
	}
	if version := native.Uint32(m[4:]); version != boltVersion {
		return meta{}, fmt.Errorf("it has version %d of bbolt's format, this build reads %d", version, boltVersion)
	}
	sum := fnv.New64a()
	sum.Write(m[:metaSummed]) // a hash never fails
	if got, want := sum.Sum64(), native.Uint64(m[metaSummed:]); got != want {
		return meta{}, fmt.Errorf("its checksum is %016x, stored %016x", got, want)
	}
	out := meta{
		pageSize: int64(native.Uint32(m[8:])), root: native.Uint64(m[16:]),
		freelist: native.Uint64(m[32:]), pages: native.Uint64(m[40:]), transaction: native.Uint64(m[48:]),
	}
	if out.pageSize < minPageSize || out.pageSize > maxPageSize || bits.OnesCount64(uint64(out.pageSize)) != 1 {
		return meta{}, fmt.Errorf("%w: pages of %d bytes", errImpossible, out.pageSize)
	}
	const most = 1 << 62
	if out.pages < 3 || out.pages > most/uint64(out.pageSize) || at != 0 && at != out.pageSize {
		return meta{}, fmt.Errorf("%w: %d pages of %d bytes", errImpossible, out.pages, out.pageSize)
	}
	return out, nil
}

// metaHeaders checks what stands before the meta pages' checksums begin. bbolt
// does not look at it.
func (f *pageFile) metaHeaders() {
	for page := range uint64(2) {
		var b [pageHeader]byte
		if !f.read(page, b[:], int64(page)*f.meta.pageSize) { //nolint:gosec // 0 or 1
			continue
		}
		if id, flags := native.Uint64(b[:]), native.Uint16(b[8:]); id != page || flags != flagMeta {
			f.survive(page, "it says that it is page %d with the flags %x, not a meta page", id, flags)
		}
	}
}

// findSecondMeta looks for the second meta page where the page size is not known.
func (f *pageFile) findSecondMeta() (meta, error) {
	for size := int64(minPageSize); size <= maxPageSize; size *= 2 {
		if m, err := f.readMeta(size); err == nil {
			return m, nil
		}
	}
	return meta{}, errors.New("it is nowhere to be found")
}

func (f *pageFile) fault(page uint64, format string, args ...any) {
	f.report(Fault{Page: page, Offset: int64(page) * f.meta.pageSize, Bucket: f.within, Message: fmt.Sprintf(format, args...)}) //nolint:gosec // a page of the file, or near it
}

// survive reports the fault of a meta page that the other makes up for.
func (f *pageFile) survive(page uint64, format string, args ...any) {
	f.report(Fault{Page: page, Offset: int64(page) * f.meta.pageSize, Message: fmt.Sprintf(format, args...), Survived: true}) //nolint:gosec // 0 or 1
}

// visitor is handed every key of a bucket in order, with the place of its value.
// The walk stops when it returns false.
type visitor func(key []byte, at place) bool

// place is where a value stands.
type place struct {
	page   uint64
	offset int64 // of the value, in the file
	size   int
	bucket bool // the value is a bucket
}

// check reports every fault of the file's pages: it walks from the root bucket to
// the last leaf. A file in which it finds nothing is safe to hand to bbolt.
func (f *pageFile) check() {
	f.begin()
	f.checkFreelist()
	f.tree(f.meta.root, 0, bounds{}, 0, f.nested(0))
}

// begin begins a walk: each page is walked through once, which ends a walk in
// circles.
func (f *pageFile) begin() {
	f.seen = make([]uint64, f.meta.pages/64+1)
	f.stopped = false
	f.reach(0, 0)
	f.reach(1, 0)
}

// nested walks through the buckets among a bucket's values.
func (f *pageFile) nested(depth int) visitor {
	return func(name []byte, at place) bool {
		if depth == 0 {
			f.within = string(name)
			defer func() { f.within = "" }()
		}
		if at.bucket {
			f.openBucket(at, depth+1, f.nested(depth+1))
		}
		return true
	}
}

// openBucket walks through the bucket that stands in a place.
func (f *pageFile) openBucket(at place, depth int, visit visitor) {
	if depth > maxDepth {
		f.fault(at.page, "buckets lie in each other deeper than %d", maxDepth)
		return
	}
	var head [bucketHeader]byte
	if at.size < bucketHeader || !f.read(at.page, head[:], at.offset) {
		f.fault(at.page, "a bucket of %d bytes is cut off", at.size)
		return
	}
	if root := native.Uint64(head[:]); root != 0 {
		f.tree(root, at.page, bounds{}, depth, visit)
		return
	}
	f.inline(at, visit)
}

// inline walks through a bucket whose only page stands in its parent's value.
func (f *pageFile) inline(at place, visit visitor) {
	if at.size < bucketHeader+pageHeader {
		f.fault(at.page, "a small bucket of %d bytes is cut off", at.size)
		return
	}
	n := node{page: at.page, start: at.offset + bucketHeader, size: int64(at.size) - bucketHeader, inline: true}
	if f.load(&n) {
		f.leaf(&n, bounds{}, visit)
	}
}

// bounds are those of a subtree's keys, as the branches above it say: from low on
// and below high. nil is no bound.
type bounds struct{ low, high []byte }

// tree walks through a page and what is below it, and returns its last key.
func (f *pageFile) tree(page, parent uint64, within bounds, depth int, visit visitor) (last []byte) {
	if depth > maxDepth {
		f.fault(page, "the tree of pages is deeper than %d", maxDepth)
		return nil
	}
	n := node{page: page, parent: parent}
	if !f.node(&n) || !f.load(&n) {
		return nil
	}
	if n.flags == flagLeaf {
		return f.leaf(&n, within, visit)
	}
	return f.branch(&n, within, depth, visit)
}

func (f *pageFile) branch(n *node, within bounds, depth int, visit visitor) (last []byte) {
	if n.count == 0 {
		f.fault(n.page, "it is a branch without children")
		return nil
	}
	keys := make([][]byte, n.count)
	for i := range keys {
		e := n.element(i)
		keys[i], _ = f.key(n, i, native.Uint32(e), native.Uint32(e[4:]))
	}
	last = within.low
	for i, key := range keys {
		if f.stopped {
			break
		}
		if key == nil {
			continue
		}
		f.order(n, i, key, last, within.high)
		high := within.high
		if i+1 < len(keys) && keys[i+1] != nil {
			high = keys[i+1]
		}
		if end := f.tree(native.Uint64(n.element(i)[8:]), n.page, bounds{low: key, high: high}, depth+1, visit); end != nil {
			last = end
		} else {
			last = key
		}
	}
	return last
}

func (f *pageFile) leaf(n *node, within bounds, visit visitor) (last []byte) {
	last = within.low
	for i := 0; i < n.count && !f.stopped; i++ {
		e := n.element(i)
		flags, pos, ksize, vsize := native.Uint32(e), native.Uint32(e[4:]), native.Uint32(e[8:]), native.Uint32(e[12:])
		key, at := f.key(n, i, pos, ksize)
		if key == nil {
			continue
		}
		if flags&^flagBucket != 0 || n.inline && flags != 0 {
			f.fault(n.page, "element %d has the flags %x", i, flags)
			continue
		}
		if at+int64(ksize)+int64(vsize) > n.size {
			f.fault(n.page, "the value of element %d ends beyond the page", i)
			continue
		}
		f.order(n, i, key, last, within.high)
		last = key
		f.stopped = !visit(key, place{page: n.page, offset: n.start + at + int64(ksize), size: int(vsize), bucket: flags == flagBucket}) || f.stopped
	}
	return last
}

// order checks that a key follows the one before and keeps the bounds. The first
// key of a page must be the one that leads to it from above: bbolt's own check
// lets it be later, but its writer would then not find the page's parent and make
// a second one.
func (f *pageFile) order(n *node, i int, key, before, high []byte) {
	switch c := bytes.Compare(before, key); {
	case before == nil:
	case i == 0 && c != 0:
		f.fault(n.page, "its first key, %x, is not %x, which leads to it", key, before)
	case i > 0 && c >= 0:
		f.fault(n.page, "the key of element %d, %x, does not follow %x", i, key, before)
	}
	if high != nil && bytes.Compare(key, high) >= 0 {
		f.fault(n.page, "the key of element %d, %x, belongs behind %x", i, key, high)
	}
}

// node is a page with what continues it, or the page of a small bucket.
type node struct {
	page, parent uint64
	inline       bool
	start, size  int64 // in the file
	flags        uint16
	count        int
	head         []byte // as much of it as was read: the elements at least
}

func (n *node) element(i int) []byte {
	at := pageHeader + i*elementSize
	return n.head[at : at+elementSize]
}

// node finds a page, checks that it is the page that it should be and counts it
// as reached.
func (f *pageFile) node(n *node) bool {
	if n.page < 2 || n.page >= f.meta.pages {
		f.fault(n.parent, "it leads to page %d, but there are only pages 2 to %d", n.page, f.meta.pages-1)
		return false
	}
	n.start, n.size = int64(n.page)*f.meta.pageSize, f.meta.pageSize //nolint:gosec // below the high-water mark
	var b [pageHeader]byte
	if !f.read(n.page, b[:], n.start) {
		return false
	}
	id, flags, overflow := native.Uint64(b[:]), native.Uint16(b[8:]), uint64(native.Uint32(b[12:]))
	switch {
	case id != n.page:
		f.fault(n.page, "it says that it is page %d", id)
		return false
	case flags != flagBranch && flags != flagLeaf:
		f.fault(n.page, "its flags are %x, neither a branch's nor a leaf's", flags)
		return false
	case overflow >= f.meta.pages-n.page:
		f.fault(n.page, "it goes on for %d pages, but the last one is %d", overflow, f.meta.pages-1)
		return false
	}
	n.size += int64(overflow) * f.meta.pageSize
	return f.reach(n.page, overflow)
}

// reach counts a page and those that continue it as reached; false if one was
// before.
func (f *pageFile) reach(page, more uint64) bool {
	for p := page; p <= page+more; p++ {
		if f.seen[p/64]&(1<<(p%64)) != 0 {
			f.fault(p, "two places lead to it")
			return false
		}
		f.seen[p/64] |= 1 << (p % 64)
	}
	return true
}

// load reads a node's header and elements.
func (f *pageFile) load(n *node) bool {
	n.head = make([]byte, min(n.size, f.meta.pageSize))
	if !f.read(n.page, n.head, n.start) {
		return false
	}
	n.flags, n.count = native.Uint16(n.head[8:]), int(native.Uint16(n.head[10:]))
	if n.inline && n.flags != flagLeaf {
		f.fault(n.page, "the page of a small bucket has the flags %x", n.flags)
		return false
	}
	table := int64(pageHeader + n.count*elementSize)
	if table > n.size {
		f.fault(n.page, "its %d elements do not fit into its %d bytes", n.count, n.size)
		return false
	}
	if table > int64(len(n.head)) {
		n.head = make([]byte, table)
		return f.read(n.page, n.head, n.start)
	}
	return true
}

// key reads the key of an element; nil if it is out of bounds. at is where it
// begins, counted from the node's start.
func (f *pageFile) key(n *node, i int, pos, size uint32) (key []byte, at int64) {
	at = int64(pageHeader+i*elementSize) + int64(pos)
	switch end := at + int64(size); {
	case size == 0 || size > maxKey:
		f.fault(n.page, "the key of element %d has %d bytes", i, size)
		return nil, 0
	case at < int64(pageHeader+n.count*elementSize) || end > n.size:
		f.fault(n.page, "the key of element %d lies outside of the page", i)
		return nil, 0
	case end <= int64(len(n.head)):
		return n.head[at:end], at
	}
	key = make([]byte, size)
	if !f.read(n.page, key, n.start+at) {
		return nil, 0
	}
	return key, at
}

// checkFreelist checks the list of free pages, if the file keeps one. This
// package writes none; bbolt's own tools do.
func (f *pageFile) checkFreelist() {
	if f.meta.freelist == noFreelist {
		return
	}
	page := f.meta.freelist
	if page < 2 || page >= f.meta.pages {
		f.fault(0, "the freelist should be page %d, but there are only pages 2 to %d", page, f.meta.pages-1)
		return
	}
	start := int64(page) * f.meta.pageSize //nolint:gosec // below the high-water mark
	var head [pageHeader + 8]byte
	if !f.read(page, head[:], start) {
		return
	}
	count, at, overflow := uint64(native.Uint16(head[10:])), start+pageHeader, uint64(native.Uint32(head[12:]))
	if count == manyInList {
		count, at = native.Uint64(head[pageHeader:]), at+8
	}
	if id, flags := native.Uint64(head[:]), native.Uint16(head[8:]); id != page || flags != flagFreelist || overflow >= f.meta.pages-page {
		f.fault(page, "it should be the freelist, and says that it is page %d with the flags %x and %d pages more", id, flags, overflow)
		return
	}
	end := start + int64(overflow+1)*f.meta.pageSize //nolint:gosec // below the high-water mark
	if !f.reach(page, overflow) {
		return
	}
	if count > uint64(end-at)/8 { //nolint:gosec // at is in the page
		f.fault(page, "the freelist of %d pages does not fit", count)
		return
	}
	list := make([]byte, count*8)
	if !f.read(page, list, at) {
		return
	}
	for i := range count {
		if free := native.Uint64(list[i*8:]); free < 2 || free >= f.meta.pages {
			f.fault(page, "the freelist names page %d, but there are only pages 2 to %d", free, f.meta.pages-1)
		} else {
			f.reach(free, 0)
		}
	}
}

// read fills b from the file.
func (f *pageFile) read(page uint64, b []byte, at int64) bool {
	if at < 0 || at+int64(len(b)) > f.size {
		f.fault(page, "the file ends before it")
		return false
	}
	if _, err := f.r.ReadAt(b, at); err != nil {
		f.fault(page, "it cannot be read: %v", err)
		return false
	}
	return true
}
