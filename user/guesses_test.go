package user_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/meet5/backend/user"
)

// behindGateway makes the test's own connections those of a gateway.
func behindGateway(c *user.Config, _ *user.Deps) {
	c.Gateways = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
}

// guess tries to sign in from an address.
func (w *world) guess(login, password, from string) response {
	w.Helper()
	return w.call(request{method: "POST", path: "/v1/sessions", headers: map[string]string{"X-Forwarded-For": from},
		body: fmt.Sprintf(`{"login":%q,"password":%q}`, login, password)})
}

func TestGuessesOfAPasswordAreSlowedDown(t *testing.T) {
	for _, login := range []string{"anna", "nobody"} { // a login that nobody has is treated alike
		w := newWorld(t, behindGateway)
		w.register("anna")
		for range 5 {
			w.want(http.StatusUnauthorized, w.guess(login, "wrong password", "203.0.113.7"))
		}
		for range 2 {
			r := w.want(http.StatusTooManyRequests, w.guess(login, goodPassword, "203.0.113.7"))
			equal(t, "Retry-After", r.header.Get("Retry-After"), "30")
		}
		w.clock.advance(30 * time.Second)
		w.want(http.StatusUnauthorized, w.guess(login, "wrong password", "203.0.113.7"))
		w.want(http.StatusTooManyRequests, w.guess(login, "wrong password", "203.0.113.7"))
	}
}

func TestAnAttackFromManyAddressesDoesNotLockTheOwnerOut(t *testing.T) {
	w := newWorld(t, behindGateway)
	w.register("anna")
	w.want(http.StatusCreated, w.guess("anna", goodPassword, "203.0.113.7"))
	refused := 0
	for i := range 40 {
		if r := w.guess("anna", "wrong password", fmt.Sprintf("198.51.100.%d", i)); r.status == http.StatusTooManyRequests {
			refused++
		}
	}
	equal(t, "guesses that were not even tried", refused, 20)
	// The same network, whatever the instance and the address in it.
	w.want(http.StatusCreated, w.guess("anna", goodPassword, "203.0.113.99"))
	for range 5 {
		w.want(http.StatusUnauthorized, w.guess("anna", "a slip of the finger", "203.0.113.99"))
	}
	w.want(http.StatusTooManyRequests, w.guess("anna", goodPassword, "203.0.113.99"))
	// Nobody is known anywhere who is not there.
	for i := range 20 {
		w.guess("nobody", "wrong password", fmt.Sprintf("198.51.100.%d", i))
	}
	w.want(http.StatusTooManyRequests, w.guess("nobody", goodPassword, "203.0.113.99"))
}

func TestTheRightPasswordIsNeverSlowedDown(t *testing.T) {
	w := newWorld(t, behindGateway)
	w.register("anna")
	for range 30 {
		w.want(http.StatusCreated, w.guess("anna", goodPassword, "203.0.113.7"))
	}
}

func TestWhoHasATokenCannotGuessThePasswordWithIt(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	stolen := w.signIn("anna", goodPassword)
	for range 5 {
		w.want(http.StatusUnprocessableEntity, w.changePassword(stolen.access, "wrong password", newPassword))
	}
	w.want(http.StatusTooManyRequests, w.changePassword(stolen.access, goodPassword, newPassword))
	w.clock.advance(30 * time.Second)
	w.want(http.StatusNoContent, w.changePassword(stolen.access, goodPassword, newPassword))
}
