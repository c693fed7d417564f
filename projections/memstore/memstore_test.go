package memstore_test

import (
	"strings"
	"testing"

	"github.com/meet5/backend/projections/memstore"
	"github.com/meet5/backend/projections/storetest"
	"github.com/meet5/backend/projections/views"
)

var subject = storetest.Subject{Open: func() views.Store { return memstore.New() }}

func TestKeepsTheRulesOfTheViews(t *testing.T) { storetest.Run(t, subject) }

func TestStandsRaces(t *testing.T) { storetest.Races(t, subject) }

func TestEqualsTheRulesHoweverEventsAreDelivered(t *testing.T) { storetest.Property(t, subject) }

func TestABatchThatLeavesAGapIsRefused(t *testing.T) {
	s := memstore.New()
	if err := s.Apply(t.Context(), views.Batch{Partition: 3, First: 1, Last: 4}); err != nil {
		t.Fatal(err)
	}
	err := s.Apply(t.Context(), views.Batch{Partition: 3, First: 6, Last: 7})
	if err == nil || !strings.Contains(err.Error(), "5 to 5 are missing") {
		t.Fatalf("got %v, want an error that names what is missing", err)
	}
	if err := s.Apply(t.Context(), views.Batch{Partition: 3, First: 2, Last: 7}); err != nil {
		t.Fatal(err)
	}
}
