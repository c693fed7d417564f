// Package password hashes passwords with argon2id.
//
// It promises that
//   - a hash costs 19 MiB and two passes over it, and says so itself, in PHC form
//     ($argon2id$v=19$m=19456,t=2,p=1$salt$hash), so that the cost can be raised
//     and old hashes stay good;
//   - only so many hashes are computed at once, and only so many callers wait
//     for their turn; the next one gets ErrBusy at once;
//   - the memory of a burst, 80 MB and more, is given back seconds after it;
//   - comparing takes the same time whether the password is right, wrong, or
//     there is none to compare with;
//   - the same characters give the same password, however a keyboard composes
//     them.
package password

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"
)

// The cost of a new hash, by OWASP's advice.
const (
	memoryKiB = 19 * 1024
	passes    = 2
	lanes     = 1
	saltBytes = 16
	hashBytes = 32
)

// Bounds of what a stored hash may ask for: more is a damaged one.
const (
	maxMemoryKiB = 256 * 1024
	maxPasses    = 16
	maxLanes     = 16
)

const (
	// maxParallel bounds how many hashes are computed at once, on however many
	// cores: each takes 19 MiB.
	maxParallel = 4
	// maxWaiting bounds the callers that wait: at 30 ms a hash and two cores, the
	// last of them waits for about a second.
	maxWaiting = 64
	// settleAfter is how long after the last hash of a burst its memory is given back
	// to the system: what one hash has used waits for the next collection, which an
	// idle process does not come to. A burst is burstHashes. Collecting takes 25 ms of
	// a small process, and more of a large one, so that it is done settleEvery at most.
	settleAfter = 5 * time.Second
	burstHashes = 16
	settleEvery = time.Minute
)

// ErrBusy says that too many callers wait already.
var ErrBusy = errors.New("too many passwords are being hashed")

// ErrMalformed says that a stored hash is not one of ours.
var ErrMalformed = errors.New("not an argon2id hash")

// Hasher hashes and compares. It is safe for concurrent use.
type Hasher struct {
	rand    io.Reader
	running chan struct{}
	present chan struct{} // who runs or waits
	settler settler
}

// settler gives the memory of bursts back.
type settler struct {
	mu      sync.Mutex
	hashes  int // since it last did
	settled time.Time
	timer   *time.Timer // nil: not under way
}

// hashed notes that a hash was computed.
func (s *settler) hashed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hashes++
	if s.hashes < burstHashes {
		return
	}
	after := max(settleAfter, settleEvery-time.Since(s.settled))
	if s.timer == nil {
		s.timer = time.AfterFunc(after, s.settle)
	} else {
		s.timer.Reset(after)
	}
}

func (s *settler) settle() {
	debug.FreeOSMemory()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hashes, s.settled, s.timer = 0, time.Now(), nil
}

// NewHasher makes a Hasher that takes its salts from rand.
func NewHasher(rand io.Reader) *Hasher {
	parallel := min(runtime.GOMAXPROCS(0), maxParallel)
	return &Hasher{
		rand:    rand,
		running: make(chan struct{}, parallel),
		present: make(chan struct{}, parallel+maxWaiting),
	}
}

// Hash returns the password's hash in PHC form. The error is ErrBusy, ctx's, or
// that of the source of randomness.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltBytes)
	if _, err := io.ReadFull(h.rand, salt); err != nil {
		return "", fmt.Errorf("make a salt: %w", err)
	}
	p := parsed{memory: memoryKiB, passes: passes, lanes: lanes, salt: salt}
	hash, err := h.compute(ctx, password, p, hashBytes)
	if err != nil {
		return "", err
	}
	p.hash = hash
	return p.String(), nil
}

// Matches says whether the password is the one that was hashed to phc. An empty
// phc stands for nobody's: it takes as long as any other and never matches. The
// error is ErrBusy, ErrMalformed or ctx's.
func (h *Hasher) Matches(ctx context.Context, password, phc string) (bool, error) {
	nobody := phc == ""
	p := parsed{memory: memoryKiB, passes: passes, lanes: lanes,
		salt: make([]byte, saltBytes), hash: make([]byte, hashBytes)}
	if !nobody {
		var err error
		if p, err = parse(phc); err != nil {
			return false, err
		}
	}
	got, err := h.compute(ctx, password, p, uint32(len(p.hash))) //nolint:gosec // at most 64
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, p.hash) == 1 && !nobody, nil
}

func (h *Hasher) compute(ctx context.Context, password string, p parsed, length uint32) ([]byte, error) {
	select {
	case h.present <- struct{}{}:
		defer func() { <-h.present }()
	default:
		return nil, ErrBusy
	}
	select {
	case h.running <- struct{}{}:
		defer func() { <-h.running }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to hash a password: %w", ctx.Err())
	}
	defer h.settler.hashed()
	return argon2.IDKey(norm.NFC.Bytes([]byte(password)), p.salt, p.passes, p.memory, p.lanes, length), nil
}

// parsed is a hash in PHC form, taken apart.
type parsed struct {
	memory, passes uint32
	lanes          uint8
	salt, hash     []byte
}

var encoding = base64.RawStdEncoding.Strict()

func (p parsed) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.passes, p.lanes,
		encoding.EncodeToString(p.salt), encoding.EncodeToString(p.hash))
}

func parse(phc string) (parsed, error) {
	var p parsed
	var version int
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return p, ErrMalformed
	}
	if _, err := fmt.Sscanf(parts[2], "v=%d", &version); err != nil || version != argon2.Version {
		return p, fmt.Errorf("%w: version %q", ErrMalformed, parts[2])
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.passes, &p.lanes); err != nil {
		return p, fmt.Errorf("%w: parameters %q", ErrMalformed, parts[3])
	}
	var err1, err2 error
	p.salt, err1 = encoding.DecodeString(parts[4])
	p.hash, err2 = encoding.DecodeString(parts[5])
	switch {
	case err1 != nil || err2 != nil || len(p.salt) < 8 || len(p.salt) > 64 || len(p.hash) < 16 || len(p.hash) > 64:
		return p, fmt.Errorf("%w: salt or hash", ErrMalformed)
	case p.memory < 8 || p.memory > maxMemoryKiB || p.passes < 1 || p.passes > maxPasses || p.lanes < 1 || p.lanes > maxLanes:
		return p, fmt.Errorf("%w: parameters %q are out of bounds", ErrMalformed, parts[3])
	}
	return p, nil
}
