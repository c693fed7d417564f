package user

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
	"github.com/meet5/backend/user/account"
)

type registerBody struct {
	Handle      string  `json:"handle"`
	Email       string  `json:"email"`
	Password    string  `json:"password"`
	DisplayName string  `json:"display_name"`
	BirthDate   string  `json:"birth_date"`
	City        *string `json:"city"`
	About       *string `json:"about"`
}

// handleRegister serves POST /v1/users.
func (s *Service) handleRegister(c echo.Context) error {
	if s.cfg.NoRegistration {
		return problem.NotFound("nobody registers here; sign in with an ID token of the outside provider")
	}
	var body registerBody
	if err := web.Bind(c, &body); err != nil {
		return err
	}
	personal, faults := account.Registration{
		Handle: body.Handle, Email: body.Email, Password: body.Password, DisplayName: body.DisplayName,
		BirthDate: body.BirthDate, City: orBlank(body.City), About: orBlank(body.About),
	}.Personal(s.now())
	if err := invalid(faults); err != nil {
		return err
	}
	if folded, _ := account.FoldHandle(personal.Handle); folded == AdminHandle {
		return conflict(taken("handle"))
	}
	a, err := s.register(c.Request().Context(), newcomer{personal: personal, password: body.Password})
	if err != nil {
		return err
	}
	c.Response().Header().Set("Location", "/v1/users/"+a.ID.String())
	web.SetETag(c, web.ETag(a.Version))
	return c.JSON(http.StatusCreated, answerAccount(a))
}

func orBlank(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
