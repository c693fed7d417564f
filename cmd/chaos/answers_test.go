package chaos

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/cmd/history"
)

// houseAt is no more of a house than a client needs to talk to a gateway.
func houseAt(t *testing.T, answer http.HandlerFunc) *house {
	t.Helper()
	gateway := httptest.NewServer(answer)
	t.Cleanup(gateway.Close)
	return &house{
		options: &Options{Patience: time.Minute}, recorder: history.NewRecorder(),
		doors: &doors{urls: []string{gateway.URL}, client: gateway.Client(), tally: &tally{}},
	}
}

func rules(vs []history.Violation) (out []history.Rule) {
	for _, v := range vs {
		out = append(out, v.Rule)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestWhatAMemberIsToldIsRecordedAsItIs(t *testing.T) {
	ids := [2]uuid.UUID{uuid.New(), uuid.New()}
	line := func(i, status, sequence int) string {
		return fmt.Sprintf(`{"line":%d,"status":%d,"id":%q,"partition":0,"sequence":%d}`+"\n", i+1, status, ids[i], sequence)
	}
	for name, c := range map[string]struct {
		status      int
		body        string
		retryAfter  string
		settled     bool
		ack, unsure int
		wrong       string // what no client should be told
	}{
		"written":                       {200, line(0, 201, 1) + line(1, 201, 2), "", true, 2, 0, ""},
		"written before":                {200, line(0, 200, 1) + line(1, 200, 2), "", true, 2, 0, ""},
		"one line is refused for now":   {200, line(0, 201, 1) + line(1, 503, 0), "", false, 1, 1, ""},
		"all is refused for now":        {503, "", "1", false, 0, 2, ""},
		"refused without saying when":   {503, "", "", false, 0, 2, "503 without Retry-After"},
		"an error of the server's":      {500, "", "", false, 0, 2, "answered with 500"},
		"a target that is called gone":  {200, line(0, 404, 0) + line(1, 201, 1), "", false, 1, 1, "answered with 404"},
		"an answer with a line missing": {200, line(0, 201, 1), "", false, 0, 2, "not of what was sent"},
		"an answer in another order":    {200, line(1, 201, 1) + line(0, 201, 2), "", false, 0, 2, "not of what was sent"},
		"written in another order":      {200, line(0, 201, 2) + line(1, 201, 1), "", true, 2, 0, "not in their order"},
	} {
		t.Run(name, func(t *testing.T) {
			h := houseAt(t, func(w http.ResponseWriter, _ *http.Request) {
				if c.retryAfter != "" {
					w.Header().Set("Retry-After", c.retryAfter)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			d := &device{load: &load{house: h}, member: &account{doors: h.doors, since: time.Now(), id: uuid.New()}, name: "anna", lines: maxBatch}
			p := parcel{acts: []act{{id: ids[0], kind: activity.Visit}, {id: ids[1], kind: activity.Visit}}}
			settled := d.send(t.Context(), p)
			got := h.recorder.Counts()
			if settled != c.settled || got.Acknowledged != c.ack || got.Unknown != c.unsure || got.Calls != 2 {
				t.Errorf("settled: %v, %+v", settled, got)
			}
			wrong := h.doors.tally.violations()
			if c.wrong == "" && len(wrong) > 0 || c.wrong != "" && (len(wrong) != 1 || !strings.Contains(wrong[0].Message, c.wrong)) {
				t.Errorf("wrong answers: %v, want %q", wrong, c.wrong)
			}
		})
	}
}

func TestWhoHasAHandleIsHeldAgainstWhatTheyWereTold(t *testing.T) {
	for name, c := range map[string]struct {
		told [2]outcome
		in   [2]bool
		want []history.Rule
	}{
		"one has it":                          {[2]outcome{won, refused}, [2]bool{true, false}, nil},
		"one was told nothing and has it":     {[2]outcome{unsure, refused}, [2]bool{true, false}, nil},
		"both were told nothing, nobody has":  {[2]outcome{unsure, unsure}, [2]bool{false, false}, nil},
		"both have it":                        {[2]outcome{won, unsure}, [2]bool{true, true}, []history.Rule{history.Claim}},
		"who won has it not":                  {[2]outcome{won, unsure}, [2]bool{false, true}, []history.Rule{history.Lost}},
		"who was refused has it":              {[2]outcome{refused, unsure}, [2]bool{true, false}, []history.Rule{history.RefusedButWritten}},
		"one was refused though nobody has":   {[2]outcome{refused, unsure}, [2]bool{false, false}, []history.Rule{history.Claim}},
		"one won and it is gone, one refused": {[2]outcome{won, refused}, [2]bool{false, false}, []history.Rule{history.Claim, history.Lost}},
	} {
		t.Run(name, func(t *testing.T) {
			h := houseAt(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				for i, in := range c.in {
					if in && strings.Contains(string(body), fmt.Sprintf("x.%d@", i)) {
						w.WriteHeader(http.StatusCreated)
						_, _ = io.WriteString(w, `{"access_token":"a"}`)
						return
					}
				}
				w.WriteHeader(http.StatusUnauthorized)
			})
			var race [2]*contender
			for i := range race {
				race[i] = &contender{account: account{doors: h.doors, login: fmt.Sprintf("x.%d@example.org", i)}, told: c.told[i]}
			}
			if err := (&load{house: h}).judge(context.Background(), "x", race); err != nil {
				t.Fatal(err)
			}
			if got := rules(h.violations); !slices.Equal(got, c.want) {
				t.Errorf("found %v, want %v: %v", got, c.want, h.violations)
			}
		})
	}
}

func TestAVersionIsHeldAgainstWhatDevicesWereTold(t *testing.T) {
	for name, c := range map[string]struct {
		texts map[string]outcome
		seen  string // empty: nobody looked
		want  []history.Rule
	}{
		"one won":                      {map[string]outcome{"a": won, "b": refused}, "a", nil},
		"one won and nobody looked":    {map[string]outcome{"a": won, "b": refused}, "", nil},
		"one was told nothing and won": {map[string]outcome{"a": unsure, "b": refused}, "a", nil},
		"two won":                      {map[string]outcome{"a": won, "b": won}, "a", []history.Rule{history.Lost, history.Version}},
		"the other's is there":         {map[string]outcome{"a": won, "b": unsure}, "b", []history.Rule{history.Lost}},
		"who was refused is there":     {map[string]outcome{"a": unsure, "b": refused}, "b", []history.Rule{history.RefusedButWritten}},
	} {
		t.Run(name, func(t *testing.T) {
			h := &house{}
			p := &profile{house: h, devices: [2]*account{{login: "racer"}, {}}, texts: map[uint64]map[string]outcome{2: c.texts}, seen: map[uint64]string{}}
			if c.seen != "" {
				p.seen[2] = c.seen
			}
			p.check()
			if got := rules(h.violations); !slices.Equal(got, c.want) {
				t.Errorf("found %v, want %v", got, c.want)
			}
		})
	}
}
