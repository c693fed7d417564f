package mongoside_test

import (
	"testing"

	"github.com/meet5/backend/events/servertest"
	"github.com/meet5/backend/fraud/labels"
	"github.com/meet5/backend/fraud/side/mongoside"
	"github.com/meet5/backend/fraud/side/sidetest"
)

func TestStoreKeepsItsPromises(t *testing.T) {
	sidetest.Run(t, func(t *testing.T) labels.Store {
		db := servertest.Database(t, "fraudside")
		for range 2 { // Create may be repeated
			if err := mongoside.Create(t.Context(), db); err != nil {
				t.Fatal(err)
			}
		}
		return mongoside.Open(db)
	})
}
