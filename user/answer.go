package user

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/user/account"
)

// stamp is a time in an answer: RFC 3339 in UTC with microseconds.
type stamp time.Time

const stampLayout = `"2006-01-02T15:04:05.000000Z"`

// MarshalJSON implements json.Marshaler.
func (s stamp) MarshalJSON() ([]byte, error) {
	return []byte(time.Time(s).UTC().Format(stampLayout)), nil
}

// accountAnswer is an account as its owner and admins see it. Every field is
// always there; null says that a dated or addressed one is not known, as of an
// imported account.
type accountAnswer struct {
	ID          uuid.UUID      `json:"id"`
	Handle      string         `json:"handle"`
	Email       *string        `json:"email"`
	DisplayName string         `json:"display_name"`
	BirthDate   *string        `json:"birth_date"`
	City        string         `json:"city"`
	About       string         `json:"about"`
	Roles       []string       `json:"roles"`
	Status      account.Status `json:"status"`
	JoinedAt    stamp          `json:"joined_at"`
}

func answerAccount(a opened) accountAnswer {
	return accountAnswer{
		ID: a.ID, Handle: a.Personal.Handle, Email: orNull(a.Personal.Email),
		DisplayName: a.Personal.DisplayName, BirthDate: orNull(a.Personal.BirthDate),
		City: a.Personal.City, About: a.Personal.About,
		Roles: orEmpty(a.Roles), Status: a.Status(), JoinedAt: stamp(a.JoinedAt),
	}
}

// profileAnswer is an account as every member sees it.
type profileAnswer struct {
	ID          uuid.UUID `json:"id"`
	Handle      string    `json:"handle"`
	DisplayName string    `json:"display_name"`
	Age         *int      `json:"age"`
	City        string    `json:"city"`
	About       string    `json:"about"`
}

func answerProfile(a opened, now time.Time) profileAnswer {
	p := profileAnswer{
		ID: a.ID, Handle: a.Personal.Handle, DisplayName: a.Personal.DisplayName,
		City: a.Personal.City, About: a.Personal.About,
	}
	if age, ok := account.Age(a.Personal.BirthDate, now); ok {
		p.Age = &age
	}
	return p
}

// caseAnswer is an account as a moderator sees it. An erased one has no names.
type caseAnswer struct {
	ID          uuid.UUID      `json:"id"`
	Handle      *string        `json:"handle"`
	DisplayName *string        `json:"display_name"`
	Roles       []string       `json:"roles"`
	Status      account.Status `json:"status"`
	JoinedAt    stamp          `json:"joined_at"`
	Marks       []markAnswer   `json:"marks"`
}

// markAnswer is a confirmed flag that nothing has cleared.
type markAnswer struct {
	Flag string `json:"flag"`
	Rule string `json:"rule"`
	At   stamp  `json:"at"`
}

func answerCase(a opened) caseAnswer {
	c := caseAnswer{
		ID: a.ID, Handle: orNull(a.Personal.Handle), DisplayName: orNull(a.Personal.DisplayName),
		Roles: orEmpty(a.Roles), Status: a.Status(), JoinedAt: stamp(a.JoinedAt),
		Marks: make([]markAnswer, 0, len(a.Marks)),
	}
	for _, m := range a.Marks {
		c.Marks = append(c.Marks, markAnswer{Flag: m.Flag, Rule: m.Rule, At: stamp(m.At)})
	}
	return c
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func orEmpty(roles []string) []string {
	if roles == nil {
		return []string{}
	}
	return slices.Clone(roles)
}
