package run

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// lookEvery is how often the files of a certificate are looked at.
const lookEvery = 2 * time.Second

// Certificate is what a server shows that speaks TLS: from two PEM files, which are
// read again when they change. What cannot be read, or does not fit together, is
// said, and the one before is kept. It is safe for concurrent use.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	current           atomic.Pointer[pair]
	failed            string // what was said last; Watch's alone
}

// pair is a certificate, and the bytes that it was read from.
type pair struct {
	cert, key []byte
	tls       tls.Certificate
}

// LoadCertificate reads a certificate, with the chain behind it, and its key.
// Without either file it returns nil: a server without TLS.
func LoadCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	if certFile == "" && keyFile == "" {
		return nil, nil //nolint:nilnil // nil is a server without TLS
	}
	if certFile == "" || keyFile == "" {
		return nil, &UsageError{errors.New("--tls-cert and --tls-key go together")}
	}
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log}
	p, err := c.read()
	if err != nil {
		return nil, &UsageError{err}
	}
	c.current.Store(p)
	return c, nil
}

func (c *Certificate) read() (p *pair, err error) {
	p = &pair{}
	if p.cert, err = os.ReadFile(c.certFile); err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	if p.key, err = os.ReadFile(c.keyFile); err != nil {
		return nil, fmt.Errorf("read the certificate's key: %w", err)
	}
	if p.tls, err = tls.X509KeyPair(p.cert, p.key); err != nil {
		return nil, fmt.Errorf("read the certificate %s and its key %s: %w", c.certFile, c.keyFile, err)
	}
	return p, nil
}

// Watch reads the files again whenever they have changed, until ctx ends.
func (c *Certificate) Watch(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			c.look(ctx)
		}
	}
}

func (c *Certificate) look(ctx context.Context) {
	p, err := c.read()
	if err != nil {
		// Both files are seldom written at the same moment: once is enough to say it.
		if err.Error() != c.failed {
			c.failed = err.Error()
			c.log.ErrorContext(ctx, "the new certificate is of no use; the old one is kept", "error", err)
		}
		return
	}
	c.failed = ""
	if old := c.current.Load(); bytes.Equal(p.cert, old.cert) && bytes.Equal(p.key, old.key) {
		return
	}
	c.current.Store(p)
	c.log.InfoContext(ctx, "a new certificate is shown", "not_after", p.tls.Leaf.NotAfter)
}

// config is that of a server. TLS 1.2 has no suites but those with forward secrecy
// and authenticated encryption, which is what Go offers by itself.
func (c *Certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c.current.Load().tls, nil },
	}
}
