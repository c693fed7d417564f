// Package client speaks to the gateway. All but this file is generated from the
// OpenAPI document by `make generate`; `make lint` tells when it is out of date.
//
// Each operation of the document is a method of ClientWithResponses, by its
// operationId. The answer has the raw body, the HTTP response, and, by its status,
// what the body says: JSON200, JSON201, or ApplicationproblemJSONDefault for any
// refusal. The methods of Client leave the answer unread, which is for streams.
package client

import (
	"context"
	"net/http"
)

// Bearer signs a request with an access token.
func Bearer(token string) RequestEditorFn {
	return func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+token)
		return nil
	}
}
