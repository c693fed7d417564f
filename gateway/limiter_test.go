package gateway

import (
	"encoding/binary"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestTheNumberOfBucketsIsBoundedAndTheFullestGoFirst(t *testing.T) {
	const most = 64 * 16
	l := newLimiter(most)
	now := time.Unix(1_800_000_000, 0)
	h := make(http.Header)
	drained := uuid.New()
	for l.take(t.Context(), h, write, drained, netip.Addr{}, now) == 0 {
	}
	for n := range uint64(50 * most) {
		var user uuid.UUID
		binary.BigEndian.PutUint64(user[:], n+1)
		if wait := l.take(t.Context(), h, write, user, netip.Addr{}, now); wait != 0 {
			t.Fatalf("newcomer %d has to wait %v", n, wait)
		}
	}
	if got := l.size(); got > most {
		t.Errorf("%d buckets are kept, at most %d may be", got, most)
	}
	if l.take(t.Context(), h, write, drained, netip.Addr{}, now) == 0 {
		t.Error("who was over the rate was forgotten")
	}
}

func TestFindingARouteAllocatesNothing(t *testing.T) {
	r, err := newRouter((&Gateway{}).table(pages{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/activities", "/v1/users/018f3c5e-7b1a-7c3d-9e2f-0a1b2c3d4e5f", "/nowhere/at/all"} {
		req, err := http.NewRequest(http.MethodGet, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { r.find(req.URL) }); n > 0 {
			t.Errorf("%s: %v allocations", path, n)
		}
	}
}

func TestARouteCannotBeThereTwice(t *testing.T) {
	table := (&Gateway{}).table(pages{})
	if _, err := newRouter(append(table, table[3])); err == nil {
		t.Error("no error")
	}
}

func TestABadURLOfTheServerForRatesIsSaidWithoutItsPassword(t *testing.T) {
	for _, url := range []string{"redis://:secret@x:y", "redis://:secret@[x", "http://:secret@x", "secret"} {
		if _, err := newSharedLimiter(url, slog.New(slog.DiscardHandler), time.Now); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestAnOriginIsSchemeAndHostAndNothingElse(t *testing.T) {
	for _, good := range []string{"https://app.example.org", "http://localhost:3000"} {
		if err := checkOrigins([]string{good}); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"*", "null", "app.example.org", "https://app.example.org/", "https://a.example/x", "ftp://a.example", "https://A.example", "https://u@a.example", ""} {
		if err := checkOrigins([]string{"https://a.example", bad}); err == nil {
			t.Errorf("%q is taken for an origin", bad)
		}
	}
}
