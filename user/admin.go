package user

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/user/account"
)

// adminRoles are the first admin's.
var adminRoles = []string{"admin", "analyst", "moderator"}

// ensureAdmin makes the first admin if its handle is free. Of several instances
// that try at once, one succeeds and the others see that it did.
func (s *Service) ensureAdmin(ctx context.Context) error {
	if s.cfg.AdminEmail == "" {
		return nil
	}
	_, err := s.register(ctx, newcomer{
		personal: events.Personal{Handle: AdminHandle, Email: account.TidyEmail(s.cfg.AdminEmail), DisplayName: "Admin"},
		password: s.cfg.AdminPassword,
		roles:    slices.Clone(adminRoles),
	})
	if !errors.Is(err, errTaken) {
		if err == nil {
			s.logger.InfoContext(ctx, "made the first admin", "handle", AdminHandle)
		}
		return err
	}
	ring, err := s.keys.get(ctx)
	if err != nil {
		return err
	}
	handle, _ := nameOfHandle(AdminHandle)
	free, err := s.freeClaim(ctx, ring, handle)
	if err == nil && free != "" {
		return fmt.Errorf("make the first admin: %w: MEET5_ADMIN_EMAIL is another account's, choose another address", errTaken)
	}
	return err
}
