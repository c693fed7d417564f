package user

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"bytes"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
	"github.com/meet5/backend/user/account"
	"github.com/meet5/backend/user/provider"
)

// outsideKind is the kind of name that an identity elsewhere is. Like the others' it
// never changes.
const outsideKind = "oidc"

// spentPrefix begins the names under which the vault keeps that an ID token was
// used: until when it would be good, and who used it.
const spentPrefix = "id-token-"

type outsideBody struct {
	IDToken string          `json:"id_token"`
	Profile *outsideProfile `json:"profile"`
}

// outsideProfile is what somebody consents to have kept when they register. Their
// e-mail is the one that the provider has verified.
type outsideProfile struct {
	Handle      string  `json:"handle"`
	DisplayName string  `json:"display_name"`
	BirthDate   string  `json:"birth_date"`
	City        *string `json:"city"`
	About       *string `json:"about"`
}

// handleOutside serves POST /v1/sessions/oidc: an ID token of the outside provider is
// exchanged for a session. Nothing else in it counts: who has which role is said here.
// An e-mail that is another account's does not lead to that account, since whoever
// runs the provider would then have all of them.
func (s *Service) handleOutside(c echo.Context) error {
	if s.outside == nil {
		return problem.NotFound("this deployment has no outside provider of identities")
	}
	var body outsideBody
	if err := web.Bind(c, &body); err != nil {
		return err
	}
	if body.IDToken == "" {
		return problem.Invalid(problem.Field("id_token", "is needed: an ID token of "+s.outside.Issuer()))
	}
	ctx := c.Request().Context()
	who, err := s.outside.Verify(ctx, body.IDToken)
	if errors.Is(err, provider.ErrInvalid) {
		return fmt.Errorf("%w: %w", badIDToken(), err)
	}
	if err != nil {
		return err
	}
	ring, err := s.keys.get(ctx)
	if err != nil {
		return err
	}
	identity := name{outsideKind, s.outside.Issuer() + "\x00" + who.Subject}
	a, free, err := s.holder(ctx, ring, identity)
	if errors.Is(err, log.ErrNotFound) {
		a, err = s.registerOutside(ctx, who, body.Profile, free)
	}
	if err != nil {
		return err
	}
	if err := s.spend(ctx, body.IDToken, who.Until); err != nil {
		return err
	}
	access, refresh, err := s.startSession(c, ring, a.ID, a.Roles)
	if err != nil {
		return err
	}
	return answerSession(c, access, refresh)
}

func badIDToken() *problem.Problem {
	return problem.Unauthorized("the ID token is not valid, was made too long ago, or was used before; get a new one")
}

// registerOutside makes an account for an identity, without a password.
func (s *Service) registerOutside(ctx context.Context, who provider.Identity, p *outsideProfile, claim string) (account.Account, error) {
	if claim == "" {
		return account.Account{}, problem.Conflict("this identity was registered and erased too often")
	}
	if p == nil {
		return account.Account{}, problem.Invalid(problem.Field("profile", "is needed: nobody is registered with this identity yet"))
	}
	personal, faults := account.Registration{
		Handle: p.Handle, Email: who.Email, DisplayName: p.DisplayName,
		BirthDate: p.BirthDate, City: orBlank(p.City), About: orBlank(p.About),
	}.PersonalOutside(s.now())
	for i := range faults {
		faults[i].Field = "profile." + faults[i].Field
	}
	if err := invalid(faults); err != nil {
		return account.Account{}, err
	}
	if folded, _ := account.FoldHandle(personal.Handle); folded == AdminHandle {
		return account.Account{}, conflict(taken("handle"))
	}
	a, err := s.register(ctx, newcomer{personal: personal, claim: claim})
	return a.Account, err
}

// spend has an ID token work once, on whichever instance.
func (s *Service) spend(ctx context.Context, raw string, until time.Time) error {
	digest := sha256.Sum256([]byte(raw))
	ours := make([]byte, 8+16)
	binary.BigEndian.PutUint64(ours, uint64(until.Unix())) //nolint:gosec // long after 1970
	if _, err := io.ReadFull(s.rand, ours[8:]); err != nil {
		return fmt.Errorf("note that an ID token was used: %w", err)
	}
	kept, err := s.vault.Keep(ctx, spentPrefix+base64.RawURLEncoding.EncodeToString(digest[:]), ours)
	if err != nil {
		return err
	}
	if !bytes.Equal(kept, ours) {
		return fmt.Errorf("%w: it was used before", badIDToken())
	}
	return nil
}

// forgetSpent drops what is kept of ID tokens that are good no more.
func (s *Service) forgetSpent(ctx context.Context) error {
	kept, err := s.vault.Kept(ctx, spentPrefix)
	if err != nil {
		return err
	}
	var over []string
	for name, value := range kept {
		if len(value) < 8 || s.now().Unix() > int64(binary.BigEndian.Uint64(value)) { //nolint:gosec // as it was written
			over = append(over, name)
		}
	}
	return s.vault.Forget(ctx, over...)
}
