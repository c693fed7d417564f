package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
)

const (
	// budgetShare is how many retries each request earns.
	budgetShare = 0.1
	// budgetLeast is how many are earned a second besides, so that a service with
	// few requests has some.
	budgetLeast = 5
	// budgetMost is how many can be saved up.
	budgetMost = 50
)

// retryBudget bounds the retries of a service to a share of its requests, so that
// one that is in trouble does not get several times as many. It is what failsafe's
// retry policy asks; failsafe's own budget counts what is under way at a moment,
// which does not bound retries of what fails at once.
type retryBudget struct {
	now func() time.Time

	mu     sync.Mutex
	left   float64
	at     time.Time
	spent  atomic.Uint64
	denied atomic.Uint64
}

var _ budget.Budget = (*retryBudget)(nil)

func newRetryBudget(now func() time.Time) *retryBudget {
	return &retryBudget{now: now, left: budgetMost, at: now()}
}

func (b *retryBudget) earn(requests float64) {
	now := b.now()
	b.left = min(budgetMost, b.left+requests*budgetShare+max(0, now.Sub(b.at).Seconds())*budgetLeast)
	b.at = now
}

// Left is how many retries there may be now.
func (b *retryBudget) Left() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.earn(0)
	return b.left
}

// allows says whether there may be a retry, and counts that there may not: better
// now than after the pause before it.
func (b *retryBudget) allows() bool {
	if b.Left() >= 1 {
		return true
	}
	b.denied.Add(1)
	return false
}

// Rate implements budget.Budget: how much of it is spent.
func (b *retryBudget) Rate() float64 { return 1 - b.Left()/budgetMost }

// RecordExecution is called for every request that may be retried.
func (b *retryBudget) RecordExecution() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.earn(1)
}

// ReleaseExecution is called at its end.
func (b *retryBudget) ReleaseExecution() {}

// TryAcquirePermit takes a retry out of the budget.
func (b *retryBudget) TryAcquirePermit() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.earn(0)
	if b.left < 1 {
		return false
	}
	b.left--
	b.spent.Add(1)
	return true
}

// ReleasePermit is called at the end of a retry.
func (b *retryBudget) ReleasePermit() {}

// OnBudgetExceeded is called in place of a retry that another was quicker to take.
func (b *retryBudget) OnBudgetExceeded(budget.ExecutionType, failsafe.ExecutionInfo) { b.denied.Add(1) }
