package web

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/problem"
)

const (
	// DefaultLimit is the page size when the client names none.
	DefaultLimit = 50
	// MaxLimit is the largest page that a client may ask for.
	MaxLimit = 100
)

// Page reads ?limit= (1–100, default 50) and ?cursor= (empty on the first page).
// A bad limit is a 422 that names it; the cursor is for [DecodeCursor].
func Page(c echo.Context) (limit int, cursor string, err error) {
	query := c.QueryParams()
	limit = DefaultLimit
	if query.Has("limit") {
		limit, err = strconv.Atoi(query.Get("limit"))
		if err != nil || limit < 1 || limit > MaxLimit {
			return 0, "", problem.Invalid(problem.Field("limit", "must be a whole number from 1 to 100"))
		}
	}
	return limit, query.Get("cursor"), nil
}

// List answers 200 with one page: {"items": […], "next": "…"}. items is a slice;
// a nil one is shown as []. next is the cursor of the following page, empty on
// the last one; with it comes a Link header that keeps the request's query.
func List(c echo.Context, items any, next string) error {
	page := struct {
		Items json.RawMessage `json:"items"`
		Next  string          `json:"next,omitempty"`
	}{Next: next}
	var err error
	if page.Items, err = json.Marshal(items); err != nil {
		return err
	}
	if string(page.Items) == "null" {
		page.Items = json.RawMessage("[]")
	}
	if next != "" {
		url := *c.Request().URL
		query := url.Query()
		query.Set("cursor", next)
		c.Response().Header().Set("Link", "<"+url.EscapedPath()+"?"+query.Encode()+`>; rel="next"`)
	}
	body, err := json.Marshal(page)
	if err != nil {
		return err
	}
	return c.JSONBlob(http.StatusOK, body)
}
