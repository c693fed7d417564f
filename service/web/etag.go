package web

import (
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/problem"
)

// ETag is the strong entity tag of a version, quoted: "7".
func ETag(version uint64) string {
	return `"` + strconv.FormatUint(version, 10) + `"`
}

// SetETag puts the tag on the answer.
func SetETag(c echo.Context, tag string) {
	c.Response().Header().Set("ETag", tag)
}

// IfMatch checks that If-Match names current, a tag as [ETag] makes it: a 428 if
// the header is missing, a 412 if it names other versions only.
func IfMatch(c echo.Context, current string) error {
	if len(c.Request().Header.Values("If-Match")) == 0 {
		return problem.PreconditionRequired("send If-Match with the ETag of the version that you change")
	}
	return IfMatchOptional(c, current)
}

// IfMatchOptional is IfMatch for routes that do without the header.
func IfMatchOptional(c echo.Context, current string) error {
	values := c.Request().Header.Values("If-Match")
	if len(values) == 0 {
		return nil
	}
	for _, value := range values {
		for tag := range strings.SplitSeq(value, ",") {
			// Our tags hold no comma, so that splitting at commas finds them. A weak
			// tag never matches (RFC 9110, 13.1.1).
			if tag = strings.TrimSpace(tag); tag == current || tag == "*" {
				return nil
			}
		}
	}
	return problem.PreconditionFailed("this has changed since; read it again, the current version is " + current)
}
