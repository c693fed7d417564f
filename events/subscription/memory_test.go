package subscription_test

import (
	"testing"

	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/events/subscription/ledgertest"
)

func TestMemoryKeepsThePromisesOfALedger(t *testing.T) {
	ledgertest.Run(t, func(*testing.T) subscription.Ledger { return subscription.NewMemory() })
}
