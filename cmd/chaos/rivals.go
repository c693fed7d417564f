package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/history"
	"github.com/meet5/backend/events"
)

// rivalPaces is how much slower than others those go who race: a registration
// costs a password's hash.
const rivalPaces = 8

// outcome is what one of two who raced was told.
type outcome int

const (
	unsure outcome = iota
	won
	refused
)

// contender wants a handle.
type contender struct {
	account
	told outcome
}

// raceForHandles makes two want one handle at the same moment, again and again.
// At the end, whoever can sign in has it.
func (l *load) raceForHandles(ctx, working context.Context) {
	random := l.random(fmt.Sprintf("handles of run %d", l.number))
	var races [][2]*contender
	for n := 0; working.Err() == nil; n++ {
		handle := contested(l.number, n)
		var race [2]*contender
		var running sync.WaitGroup
		for i := range race {
			race[i] = &contender{account: account{doors: l.house.doors, gateway: i, login: fmt.Sprintf("%s.%d@example.org", handle, i), secret: fmt.Sprintf("%s %d", password, i)}}
			running.Go(func() { race[i].told = l.register(&race[i].account, handle) })
		}
		running.Wait()
		races = append(races, race)
		pause(working, time.Duration(random.ExpFloat64()*float64(rivalPaces*l.pace)))
	}
	ctx, cancel := context.WithTimeout(ctx, l.house.patience())
	defer cancel()
	for n, race := range races {
		if err := l.judge(ctx, contested(l.number, n), race); err != nil {
			l.gaveUp(err)
			return
		}
	}
}

// contested is the n-th handle that is raced for in a run.
func contested(run, n int) string { return fmt.Sprintf("r%dn%d", run, n) }

// register asks for an account.
func (l *load) register(a *account, handle string) outcome {
	intent := history.Intent{Type: events.UserRegistered, Version: 1, Claims: []string{"handle " + handle}}
	call := l.house.recorder.Invoke(a.login, events.UserLog, intent)
	body, err := registration(handle, a.login, a.secret)
	if err != nil {
		l.gaveUp(err)
		return unsure
	}
	const path = "/v1/users"
	got, err := l.house.doors.ask(context.Background(), a.gateway, request{method: http.MethodPost, path: path, contentType: jsonType, body: body})
	if err == nil && got.status == http.StatusCreated {
		id, err := accountID(got)
		if err != nil || id == uuid.Nil {
			l.house.doors.tally.wrong("the answer to POST "+path+" has no ID", got.String())
		}
		a.id, intent.Stream = id, id
		call.Learn(intent)
	}
	return l.judgeAnswer(call, "POST "+path, http.StatusCreated, http.StatusConflict, got, err)
}

// judgeAnswer records what a contender was told.
func (l *load) judgeAnswer(call *history.Call, what string, good, lost int, got answer, err error) outcome {
	t := l.house.doors.tally
	switch {
	case err != nil:
		call.Unknown("no answer")
	case got.status == good:
		call.Acknowledge()
		t.acknowledged.Add(1)
		return won
	case got.status == lost:
		call.Conflict(strconv.Itoa(lost))
		t.refused.Add(1)
		return refused
	default:
		if got.status != http.StatusServiceUnavailable {
			t.wrong(fmt.Sprintf("%s was answered with %d", what, got.status), got.String())
		}
		call.Unknown(strconv.Itoa(got.status))
	}
	t.unknown.Add(1)
	return unsure
}

// judge finds out who has a handle, and holds it against what they were told.
func (l *load) judge(ctx context.Context, handle string, race [2]*contender) error {
	var in [2]bool
	for i, c := range race {
		if err := again(ctx, settlePause, func() (err error) {
			in[i], err = c.signIn(ctx)
			return err
		}); err != nil {
			return fmt.Errorf("who has the handle %s: %w", handle, err)
		}
	}
	told := map[outcome]string{unsure: "nothing clear", won: "201", refused: "409"}
	evidence := make([]string, len(race))
	for i, c := range race {
		evidence[i] = fmt.Sprintf("%s was told %s; can sign in: %v", c.login, told[c.told], in[i])
	}
	wrong := func(rule history.Rule, message string) {
		l.house.found(history.Violation{Rule: rule, Log: events.UserLog, Partition: history.NoPartition, Message: "handle " + handle + ": " + message, Evidence: evidence})
	}
	if in[0] && in[1] {
		wrong(history.Claim, "two have it")
	}
	for i, c := range race {
		switch {
		case c.told == won && !in[i]:
			wrong(history.Lost, "who was told to have it has not")
		case c.told == refused && in[i]:
			wrong(history.RefusedButWritten, "who was refused has it")
		case c.told == refused && !in[1-i]:
			wrong(history.Claim, "one was refused although nobody has it")
		}
	}
	return nil
}

// raceForVersions makes two devices of one account change its profile at the same
// moment, each on condition that it has not changed since both have looked.
func (l *load) raceForVersions(working context.Context) {
	random := l.random(fmt.Sprintf("versions of run %d", l.number))
	p := l.house.profile
	for n := 0; working.Err() == nil; n++ {
		if at, ok := p.look(working); ok {
			var running sync.WaitGroup
			for i := range p.devices {
				running.Go(func() { p.change(l, i, at, fmt.Sprintf("text %d of run %d by %d", n, l.number, i)) })
			}
			running.Wait()
		}
		pause(working, time.Duration(random.ExpFloat64()*float64(rivalPaces*l.pace)))
	}
}

// profile is an account that two devices change.
type profile struct {
	house   *house
	devices [2]*account

	mu    sync.Mutex
	texts map[uint64]map[string]outcome // what was to become a version, by that version
	seen  map[uint64]string             // what a version turned out to be
}

// look reads the version that the profile has.
func (p *profile) look(ctx context.Context) (version uint64, ok bool) {
	got, err := p.devices[0].ask(ctx, request{method: http.MethodGet, path: "/v1/me"})
	if err != nil || got.status == http.StatusServiceUnavailable {
		return 0, false
	}
	var me struct{ About string }
	version, bad := strconv.ParseUint(strings.Trim(got.etag, `"`), 10, 64)
	if got.status != http.StatusOK || bad != nil || json.Unmarshal(got.body, &me) != nil {
		p.house.doors.tally.wrong(fmt.Sprintf("GET /v1/me was answered with %d", got.status), got.String())
		return 0, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if before, again := p.seen[version]; again && before != me.About {
		p.wrong(history.Version, version, fmt.Sprintf("it was %q and is %q", before, me.About))
	}
	p.seen[version] = me.About
	return version, true
}

// change asks for a version to follow the one that it is known to have.
func (p *profile) change(l *load, device int, from uint64, about string) {
	body, err := json.Marshal(map[string]string{"about": about})
	if err != nil {
		l.gaveUp(err)
		return
	}
	a := p.devices[device]
	call := p.house.recorder.Invoke(fmt.Sprintf("%s, device %d", a.login, device), events.UserLog, history.Intent{Type: events.UserProfileChanged, Stream: a.id, Version: from + 1})
	got, err := a.ask(context.Background(), request{
		method: http.MethodPatch, path: "/v1/me", contentType: "application/merge-patch+json", ifMatch: `"` + strconv.FormatUint(from, 10) + `"`, body: body,
	})
	told := l.judgeAnswer(call, "PATCH /v1/me", http.StatusOK, http.StatusPreconditionFailed, got, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.texts[from+1] == nil {
		p.texts[from+1] = make(map[string]outcome)
	}
	p.texts[from+1][about] = told
}

// check holds what the versions turned out to be against what devices were told.
func (p *profile) check() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for version, texts := range p.texts {
		seen, looked := p.seen[version]
		winners := 0
		for text, told := range texts {
			switch {
			case told == won && looked && seen != text:
				p.wrong(history.Lost, version, fmt.Sprintf("who wrote %q was told 200; it is %q", text, seen))
			case told == refused && looked && seen == text:
				p.wrong(history.RefusedButWritten, version, fmt.Sprintf("who wrote %q was told 412", text))
			}
			if told == won {
				winners++
			}
		}
		if winners > 1 {
			p.wrong(history.Version, version, fmt.Sprintf("%d devices were told 200", winners))
		}
	}
	clear(p.texts)
}

func (p *profile) wrong(rule history.Rule, version uint64, evidence string) {
	p.house.found(history.Violation{
		Rule: rule, Log: events.UserLog, Partition: history.NoPartition,
		Message: fmt.Sprintf("version %d of the profile of %s", version, p.devices[0].login), Evidence: []string{evidence},
	})
}
