package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/cmd/ingest"
)

// freePort reserves nothing: it names a port that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// apart is every service as processes of their own, on real services, as compose.yaml
// runs them.
type apart struct {
	*house
	where     backend.Where
	services  []string               // the last is the gateway, of which there is one
	instances map[string][]*exec.Cmd // by service
}

// runApart starts so many instances of each service and a gateway, and waits until all are
// ready.
func runApart(t *testing.T, instances int) *apart {
	t.Helper()
	where := realServices(t)
	dbs, mongodb, err := backend.Connect(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	runner, err := backend.Migrations(dbs, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := runner.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := mongodb.Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}

	bin := t.TempDir()
	services := []string{"user", "activity", "fraud", "projections", "gateway"}
	for _, name := range services {
		out, err := exec.Command("go", "build", "-o", filepath.Join(bin, name), "../../"+name+"/cmd/"+name).CombinedOutput() //nolint:gosec // our own programs
		if err != nil {
			t.Fatalf("build %s: %v: %s", name, err, out)
		}
	}
	addresses := map[string][]string{}
	var environment []string
	for _, name := range services[:4] {
		urls := ""
		for i := range instances {
			addresses[name] = append(addresses[name], freePort(t))
			if i > 0 {
				urls += ","
			}
			urls += "http://" + addresses[name][i]
		}
		environment = append(environment, "MEET5_"+map[string]string{
			"user": "USER", "activity": "ACTIVITY", "fraud": "FRAUD", "projections": "PROJECTIONS",
		}[name]+"_URL="+urls)
	}
	addresses["gateway"] = []string{freePort(t)}
	environment = append(append(os.Environ(), environment...),
		"MEET5_MONGO="+where.Mongo, "MEET5_AMQP="+where.AMQP, "MEET5_PREFIX="+where.Prefix, "MEET5_RATE_LIMITS=off",
		"MEET5_ADMIN_EMAIL="+adminEmail, "MEET5_ADMIN_PASSWORD="+password)
	all := &apart{where: where, services: services, instances: make(map[string][]*exec.Cmd)}
	for _, name := range services {
		for i, address := range addresses[name] {
			cmd := exec.Command(filepath.Join(bin, name)) //nolint:gosec // our own programs
			cmd.Env = slices.Concat(environment, []string{"MEET5_LISTEN=" + address})
			var printed bytes.Buffer
			cmd.Stderr = &printed
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				if t.Failed() {
					t.Logf("%s %d: %s", name, i, printed.String())
				}
			})
			all.instances[name] = append(all.instances[name], cmd)
		}
	}
	all.house = &house{t: t, url: "http://" + addresses["gateway"][0]}
	for _, name := range services {
		for _, address := range addresses[name] {
			eventually(t, name+" becomes ready", func() (any, bool) { return ready(t.Context(), address) })
		}
	}
	return all
}

// TestEveryServiceAsAProcessOfItsOwn runs two instances of each service and one
// gateway, as compose.yaml does, and the main job through them. One instance of
// each is killed in the middle.
func TestEveryServiceAsAProcessOfItsOwn(t *testing.T) {
	h := runApart(t, 2)
	anna, bert, mod := h.register("anna"), h.register("bert"), h.with("mod", "moderator")
	bert.act("visit", anna.id).is(http.StatusCreated)
	eventually(t, "anna's visitors", func() (any, bool) {
		l := anna.list("/v1/me/visitors")
		return l, names(l) == "bert"
	})
	tools, err := backend.OpenTools(t.Context(), h.where, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	accounts := make([]ingest.Account, 99)
	for i := range accounts {
		accounts[i] = ingest.Account{ID: uuid.New(), Name: "Somebody", JoinedAt: time.Now().Add(-time.Hour)}
	}
	if err := errors.Join(ingest.Accounts(t.Context(), tools.User, accounts), tools.Close()); err != nil {
		t.Fatal(err)
	}
	storm, target := h.register("storm"), h.register("target")
	var lines []object
	for _, a := range append(accounts, ingest.Account{ID: target.id}) {
		lines = append(lines, object{"id": uuid.New(), "type": "visit", "target": a.ID}, object{"id": uuid.New(), "type": "like", "target": a.ID})
	}
	// Whichever instance is asked knows what has become of a backtest.
	if b := mod.try(object{}); len(b.Report.Rules) == 0 || b.Report.Events != 1 {
		t.Errorf("%+v", b)
	}
	hearing := target.listen(t.Context())
	bert.act("visit", target.id).is(http.StatusCreated)
	hearing.hears("visit " + bert.id.String())
	for _, name := range h.services[:4] { // one of each dies under way
		_ = h.instances[name][0].Process.Kill()
	}
	// A request that was under way at the instance that died gets 503. The IDs are
	// the client's, so it sends the same again.
	eventually(t, "the batch is taken", func() (any, bool) {
		a := storm.tryBatch(lines)
		return string(a.body), a.status == http.StatusOK && bytes.Count(a.body, []byte(`"status":20`)) == len(lines)
	})
	eventually(t, "the flag", func() (any, bool) {
		l := mod.list("/v1/moderation/flags?rule=meet5-first-minutes")
		return l, len(l.Items) == 1 && l.Items[0]["user"] == storm.id.String() && l.Items[0]["evidence_count"] == 200.0
	})
	hearing.hears("visit "+bert.id.String(), "visit "+storm.id.String(), "like "+storm.id.String())
	flag := mod.list("/v1/moderation/flags?rule=meet5-first-minutes").Items[0]["id"].(string)
	eventually(t, "the target's visitors", func() (any, bool) {
		l := target.list("/v1/me/visitors")
		return l, names(l) == "storm bert"
	})
	mod.post("/v1/moderation/flags/"+flag+"/decision", object{"decision": "confirm"}).is(http.StatusOK)
	eventually(t, "the target's visitors once it is confirmed", func() (any, bool) {
		l := target.list("/v1/me/visitors")
		return l, names(l) == "bert"
	})
}

func ready(ctx context.Context, address string) (string, bool) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return err.Error(), false
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err.Error(), false
	}
	_ = res.Body.Close()
	return res.Status, res.StatusCode == http.StatusOK
}
