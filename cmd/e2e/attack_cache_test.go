package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// elsewhere are the headers by which answers that others are given, too, are made to
// lead to somewhere else.
var elsewhere = http.Header{
	"X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"gopher"}, "X-Forwarded-Port": {"666"}, "X-Forwarded-Prefix": {"/evil.example"},
	"Forwarded": {"host=evil.example;proto=gopher"}, "X-Host": {"evil.example"}, "X-Original-Url": {"/evil.example"}, "X-Rewrite-Url": {"/evil.example"},
	"X-Http-Method-Override": {"DELETE"}, "Origin": {"https://evil.example"}, "Referer": {"https://evil.example"},
}

// poison asks for everything that reads as somebody who would like others to get the
// answer: what everybody is given does not depend on it, and nothing else is kept, or
// answered with "as before" to a tag that was guessed.
func (a *asker) poison(p cast) {
	public := 0
	for _, op := range a.operations() {
		good, ok := a.accepted[op.OperationID]
		if !ok || op.method != http.MethodGet || op.path == "/v1/me/events" {
			continue
		}
		ask := func(more http.Header) (status int, kept bool, body, header string) {
			r, err := http.NewRequestWithContext(a.ctx, op.method, a.h.url+good.path+"?"+good.query, http.NoBody)
			if err != nil {
				a.t.Fatal(err)
			}
			r.Header = good.header.Clone()
			r.Header.Del("If-None-Match")
			if op.Security == nil {
				r.Header.Set("Authorization", "Bearer "+p.all.token) // of one who is still there
			}
			for name, values := range more {
				r.Header[name] = values
			}
			r.Host = "evil.example"
			res, err := a.Do(r)
			if err != nil {
				a.t.Fatal(err)
			}
			defer res.Body.Close()
			kept = !slices.Equal(res.Header["Cache-Control"], []string{"no-store"})
			return res.StatusCode, kept, string(a.last), fmt.Sprint(res.Header)
		}
		before, kept, plain, _ := ask(nil)
		if kept {
			public++
		}
		if open := op.Security != nil; kept && !open {
			a.t.Errorf("%s may be kept by others", op.path)
		}
		status, _, body, header := ask(elsewhere)
		if status != before || strings.Contains(body+header, "evil.example") || strings.Contains(body+header, "gopher") {
			a.t.Errorf("%s is led elsewhere: %d %s %s", op.path, status, header, body)
		}
		if kept && body != plain {
			a.t.Errorf("%s depends on who asks: %s and %s", op.path, plain, body)
		}
		for _, tag := range []string{"*", `"1"`, `W/"1"`, `"1", "2", "3"`} {
			if status, _, _, _ := ask(http.Header{"If-None-Match": {tag}}); status == http.StatusNotModified && !kept {
				a.t.Errorf("%s is as it was for somebody with the tag %s", op.path, tag)
			}
		}
	}
	if public < 4 {
		a.t.Errorf("only %d answers are everybody's", public)
	}
}
