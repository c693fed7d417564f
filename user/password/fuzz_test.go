package password

import (
	"errors"
	"testing"
)

// FuzzParse: a stored hash is read to what writes it again, within the bounds of
// what this machine is to spend on it, or it is ErrMalformed.
func FuzzParse(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b4dWRWJTmaaJObGRdescudvJCs")
	f.Add("$argon2id$v=19$m=4294967295,t=9,p=9$c29tZXNhbHQ$")
	f.Add("$2a$10$x$$$")
	f.Add("$argon2id$v=19 $m=8,t=1,p=1x$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, phc string) {
		p, err := parse(phc)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if p.memory > maxMemoryKiB || p.passes > maxPasses || p.lanes > maxLanes || len(p.hash) < 16 {
			t.Fatalf("%q gives %+v", phc, p)
		}
		again, err := parse(p.String())
		if err != nil || again.String() != p.String() {
			t.Fatalf("%q is written as %q, which is read as %q: %v", phc, p, again, err)
		}
	})
}
