package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/gateway"
)

// three is a user and activity service of three instances behind a gateway.
type three struct {
	*house
	members        [3]*member
	user, activity gateway.Upstream
}

func newThree(t *testing.T) *three {
	t.Helper()
	x := &three{}
	var urls []*url.URL
	for n := range x.members {
		x.members[n] = newMember(string(rune('a' + n)))
		urls = append(urls, elsewhere(t, x.members[n]))
	}
	x.house = remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) {
		x.user = gateway.Remote(urls, gateway.RemoteOptions{Clock: d.Clock, Random: seeded()})
		x.activity = gateway.Remote(urls, gateway.RemoteOptions{Clock: d.Clock, Random: seeded(), ByActor: true})
		d.Upstreams.User, d.Upstreams.Activity = x.user, x.activity
	})
	return x
}

// counts is how many requests each has had, and forgets them.
func (x *three) counts() (n [3]int64) {
	for i, m := range x.members {
		n[i] = m.got.Swap(0)
	}
	return n
}

func (x *three) read() *httptest.ResponseRecorder {
	return x.do("GET", "/v1/me", "", header("Authorization", x.bearer(uuid.New())))
}

func TestThreeInstancesShareAnEvenLoad(t *testing.T) {
	x := newThree(t)
	bearer := header("Authorization", x.bearer(uuid.New()))
	// In waves: a goroutine or connection that the machine holds up makes its instance
	// the busier one, rightly, and is to cost it the rest of a wave, not of the test.
	for range 250 {
		var wave sync.WaitGroup
		for range 8 {
			wave.Go(func() {
				if rec := x.do("GET", "/v1/me", "", bearer); rec.Code != http.StatusOK {
					t.Errorf("got %d", rec.Code)
				}
			})
		}
		wave.Wait()
	}
	n := x.counts()
	least, most := min(n[0], n[1], n[2]), max(n[0], n[1], n[2])
	e := 1 - float64(most-least)*3/float64(n[0]+n[1]+n[2])
	if e < .95 {
		t.Errorf("of %v requests the balance is %.3f", n, e)
	}
	if got := gateway.Efficiency(x.user); got < e-1e-9 || got > e+1e-9 {
		t.Errorf("the metric says %.4f, the instances %.4f", got, e)
	}
	x.clock.advance(70 * time.Second)
	if got := gateway.Efficiency(x.user); got != 1 {
		t.Errorf("after a minute without requests: %v", got)
	}
}

func TestWhoHasMoreUnderWayIsNotAsked(t *testing.T) {
	x := newThree(t)
	var held sync.WaitGroup
	for range 12 {
		held.Go(func() {
			x.do("PATCH", "/v1/me?wait", "{}", header("Authorization", x.bearer(uuid.New())))
		})
		select {
		case <-x.members[0].in:
		case <-x.members[1].in:
		case <-x.members[2].in:
		}
	}
	for i, n := range x.counts() {
		if n < 3 {
			t.Errorf("of 12 requests under way %d are at %d", n, i)
		}
	}
	close(x.members[1].wait)
	close(x.members[2].wait)
	eventually(t, "two of them are free", func() bool {
		x.counts()
		for range 10 {
			x.read()
		}
		n := x.counts()
		return n[0] == 0 && n[1] > 0 && n[2] > 0
	})
	close(x.members[0].wait)
	held.Wait()
}

// home is the instance that a user's writes go to.
func (x *three) home(user uuid.UUID) int {
	x.t.Helper()
	x.counts()
	rec := x.do("POST", "/v1/activities", "{}", header("Authorization", x.bearer(user)))
	for i, n := range x.counts() {
		if n == 1 {
			return i
		}
	}
	x.t.Fatalf("no instance got the write: %d %s", rec.Code, rec.Body)
	return 0
}

func TestWritesGoToTheNextBestWhileTheirInstanceIsEjected(t *testing.T) {
	x := newThree(t)
	user := uuid.New()
	first := x.home(user)
	var elsewhere uuid.UUID // a user of another instance
	for elsewhere = uuid.New(); x.home(elsewhere) == first; elsewhere = uuid.New() {
	}
	theirs := x.home(elsewhere)

	x.members[first].fail.Store(http.StatusInternalServerError)
	for range 5 {
		if at := x.home(user); at != first {
			t.Fatalf("the write went to %d before %d was ejected", at, first)
		}
	}
	next := x.home(user)
	if next == first {
		t.Fatal("after five failures the write still goes to the same instance")
	}
	for range 5 {
		if at := x.home(user); at != next {
			t.Errorf("the next best was %d, now it is %d", next, at)
		}
		if at := x.home(elsewhere); at != theirs {
			t.Errorf("a partition of %d went to %d", theirs, at)
		}
	}
	x.members[first].fail.Store(0)
	x.clock.advance(5 * time.Second)
	if at := x.home(user); at != first {
		t.Errorf("after the ejection the write goes to %d, not to %d", at, first)
	}
}

func TestABatchGoesToTheNextBestWhileItsInstanceIsFull(t *testing.T) {
	x := newThree(t)
	user := uuid.New()
	first := x.home(user)
	var held sync.WaitGroup
	send := func() {
		held.Go(func() {
			rec := x.do("POST", "/v1/activities/batch?wait", "{}", header("Authorization", x.bearer(user)))
			if rec.Code != http.StatusOK {
				t.Errorf("a batch: %d %s", rec.Code, rec.Body)
			}
		})
	}
	for range 32 {
		send()
		<-x.members[first].in
	}
	send()
	next := x.members[(first+1)%3].in
	other := x.members[(first+2)%3].in
	select {
	case <-next:
	case <-other:
	case <-x.members[first].in:
		t.Error("more than 32 batches came to one instance")
	}
	for _, m := range x.members {
		close(m.wait)
	}
	held.Wait()
}

func (x *three) ejected() int {
	_, ejected, _, _, _ := gateway.Standing(x.user)
	return ejected
}

// fails has a number of requests fail one after the other, all at one instance.
func (x *three) failAt(i, times int) {
	x.t.Helper()
	x.members[i].fail.Store(http.StatusInternalServerError)
	for range 1000 {
		if x.members[i].failed.Load() >= int64(times) {
			break
		}
		x.read()
	}
	x.members[i].fail.Store(0)
	x.members[i].failed.Store(0)
}

func TestEjectionsGrowAndFadeAndNeverTakeMoreThanHalf(t *testing.T) {
	x := newThree(t)
	x.failAt(0, 4)
	for range 20 {
		x.read() // also well answered ones of the same instance
	}
	x.failAt(0, 4)
	if n := x.ejected(); n != 0 {
		t.Fatal("ejected for failures that were not in a row")
	}
	for n := 1; n <= 3; n++ {
		x.failAt(0, 5)
		if x.ejected() != 1 {
			t.Fatalf("ejection %d did not happen", n)
		}
		x.counts()
		for range 20 {
			x.read()
		}
		if got := x.counts(); got[0] != 0 {
			t.Errorf("%d requests came to an ejected instance", got[0])
		}
		x.clock.advance(time.Duration(n)*5*time.Second - time.Millisecond)
		if x.ejected() != 1 {
			t.Errorf("ejection %d was shorter than %d s", n, n*5)
		}
		x.clock.advance(time.Millisecond)
		if x.ejected() != 0 {
			t.Errorf("ejection %d was longer than %d s", n, n*5)
		}
		// Who comes back is not flooded.
		x.counts()
		for range 30 {
			x.read()
		}
		if got := x.counts(); got[0] < 5 || got[0] > 15 {
			t.Errorf("of 30 requests after its return %d came", got[0])
		}
	}
	// Two of three are more than half.
	x.failAt(0, 5)
	x.failAt(1, 20)
	if n := x.ejected(); n != 1 {
		t.Errorf("%d of three are ejected", n)
	}
	// After a quiet time an ejection is a first one again.
	x.clock.advance(5 * time.Minute)
	x.read()
	x.failAt(0, 5)
	x.clock.advance(5 * time.Second)
	if x.ejected() != 0 {
		t.Error("what was long ago still counts")
	}
}

func TestWhoFailsMuchMoreOftenThanTheOthersIsEjected(t *testing.T) {
	x := newThree(t)
	x.members[2].every.Store(3) // every third: never five in a row
	for range 400 {
		x.read()
	}
	if x.ejected() != 0 {
		t.Fatal("ejected before the interval was over")
	}
	x.clock.advance(10 * time.Second)
	x.read()
	if x.ejected() != 1 {
		t.Fatal("an instance that fails a third of its requests is not ejected")
	}
	x.counts()
	for range 20 {
		x.read()
	}
	if n := x.counts(); n[2] != 0 {
		t.Errorf("the wrong one is ejected: %v", n)
	}
}

// BenchmarkBalanceOfThreeInstances reports the balance of three real instances
// under an even load of 32 clients, and what a request costs that way.
func BenchmarkBalanceOfThreeInstances(b *testing.B) {
	var urls []*url.URL
	var servers []*httptest.Server
	for range 3 {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }))
		u, err := url.Parse(s.URL)
		if err != nil {
			b.Fatal(err)
		}
		urls, servers = append(urls, u), append(servers, s)
	}
	defer func() {
		for _, s := range servers {
			s.Close()
		}
	}()
	user := gateway.Remote(urls, gateway.RemoteOptions{Random: seeded()})
	h := newHouse(b, gateway.Config{}, func(d *gateway.Deps) { d.Upstreams.User = user })
	bearer := header("Authorization", h.bearer(uuid.New()))
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if rec := h.do("GET", "/v1/me", "", bearer); rec.Code != http.StatusOK {
				b.Errorf("got %d %s", rec.Code, rec.Body)
				return
			}
		}
	})
	b.ReportMetric(gateway.Efficiency(user), "balance")
}
