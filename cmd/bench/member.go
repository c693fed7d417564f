package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// member is somebody who is signed in.
type member struct {
	client *http.Client
	url    string
	id     uuid.UUID
	token  string
}

// newTransport keeps every connection of a load alive.
func newTransport() *http.Transport {
	return &http.Transport{MaxIdleConns: 4 * connections, MaxIdleConnsPerHost: 4 * connections}
}

const password = "correct horse battery"

// signUp makes an account and signs in to it.
func signUp(ctx context.Context, transport *http.Transport, url, handle string) (*member, error) {
	m := &member{client: &http.Client{Transport: transport}, url: url}
	var account struct {
		ID uuid.UUID `json:"id"`
	}
	if err := m.send(ctx, http.MethodPost, "/v1/users", map[string]string{
		"handle": handle, "email": handle + "@example.org", "password": password, "display_name": handle, "birth_date": "1990-01-31",
	}, http.StatusCreated, &account); err != nil {
		return nil, err
	}
	m.id = account.ID
	return m, m.signIn(ctx, handle, password)
}

// signIn gives the member a token with the roles that it has by now.
func (m *member) signIn(ctx context.Context, login, password string) error {
	var session struct {
		AccessToken string `json:"access_token"`
	}
	m.token = ""
	err := m.send(ctx, http.MethodPost, "/v1/sessions", map[string]string{"login": login, "password": password}, http.StatusCreated, &session)
	m.token = session.AccessToken
	return err
}

// visit returns when the visit occurred, once it is durable.
func (m *member) visit(ctx context.Context, target uuid.UUID) (time.Time, error) {
	var written struct {
		OccurredAt time.Time `json:"occurred_at"`
	}
	err := m.send(ctx, http.MethodPost, "/v1/activities", map[string]string{"type": "visit", "target": target.String()}, http.StatusCreated, &written)
	return written.OccurredAt, err
}

// lastVisitor is who visited the member last, and when.
func (m *member) lastVisitor(ctx context.Context) (uuid.UUID, time.Time, error) {
	var page struct {
		Items []struct {
			User struct {
				ID uuid.UUID `json:"id"`
			} `json:"user"`
			LastAt time.Time `json:"last_at"`
		} `json:"items"`
	}
	err := m.send(ctx, http.MethodGet, "/v1/me/visitors?limit=1", nil, http.StatusOK, &page)
	if err != nil || len(page.Items) == 0 {
		return uuid.Nil, time.Time{}, err
	}
	return page.Items[0].User.ID, page.Items[0].LastAt, nil
}

// send makes a request and reads its answer, which must have that status.
func (m *member) send(ctx context.Context, method, path string, body any, status int, answer any) error {
	var sent []byte
	if body != nil {
		var err error
		if sent, err = json.Marshal(body); err != nil {
			return err
		}
	}
	b, err := m.sendBytes(ctx, method, path, "application/json", sent, status)
	if err != nil || answer == nil {
		return err
	}
	return json.Unmarshal(b, answer)
}

func (m *member) sendBytes(ctx context.Context, method, path, contentType string, body []byte, status int) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, m.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", contentType)
	if m.token != "" {
		r.Header.Set("Authorization", "Bearer "+m.token)
	}
	res, err := m.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if res.StatusCode != status {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, res.Status, b)
	}
	return b, nil
}
