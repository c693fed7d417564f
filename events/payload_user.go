package events

import "time"

// Registration is the payload of user.registered.v1. Personal says who the
// person is, sealed with a key of that user's alone: base64 of nonce and
// AES-256-GCM ciphertext over the JSON of Personal. Destroying the key erases
// it. An imported account has no Personal data but a handle.
type Registration struct {
	Sealed   []byte    `json:"sealed"`
	Roles    []string  `json:"roles,omitempty"`
	JoinedAt time.Time `json:"joined_at"`
	Imported bool      `json:"imported,omitempty"`
}

// Personal is what is sealed in Registration and ProfileChange.
type Personal struct {
	Handle      string `json:"handle"`
	Email       string `json:"email,omitempty"`
	DisplayName string `json:"display_name"`
	BirthDate   string `json:"birth_date,omitempty"`
	City        string `json:"city,omitempty"`
	About       string `json:"about,omitempty"`
}

// ProfileChange is the payload of user.profile_changed.v1: the whole profile as
// it is from now on, sealed as in Registration.
type ProfileChange struct {
	Sealed []byte `json:"sealed"`
}

// Roles is the payload of user.roles_changed.v1: all roles from now on, sorted.
type Roles struct {
	Roles []string `json:"roles"`
	By    string   `json:"by"`
}

// Standing is the payload of user.marked_fraudulent.v1 and user.cleared.v1, with
// the flag whose decision led to it.
type Standing struct {
	Flag string `json:"flag"`
	Rule string `json:"rule"`
}

// Erasure is the payload of user.erased.v1. After it the user is unknown.
type Erasure struct {
	By string `json:"by"`
}
