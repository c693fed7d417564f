package events

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// BacktestRequest is the payload of fraud.backtest_requested.v1: all that a
// backtest needs to know, so that any instance can do it.
type BacktestRequest struct {
	By uuid.UUID `json:"by"`
	// Rules are the rules to try, each as JSON.
	Rules []json.RawMessage `json:"rules"`
	// Since and Until bound what is counted, Since included; unbounded if nil.
	Since *time.Time `json:"since,omitempty"`
	Until *time.Time `json:"until,omitempty"`
	// Against is what precision and recall are measured against.
	Against string `json:"against"`
	Sample  int    `json:"sample"`
	Curve   bool   `json:"curve,omitempty"`
	// Thresholds are those of the curve; chosen for each rule if empty.
	Thresholds []int `json:"thresholds,omitempty"`
}

// BacktestStep is the payload of fraud.backtest_started.v1, by which an instance
// takes a backtest, backtest_progressed, by which it shows that it is still at it,
// and backtest_returned, by which it gives it back.
type BacktestStep struct {
	Instance uuid.UUID `json:"instance"`
	// Events have been worked through, of Total.
	Events uint64 `json:"events"`
	Total  uint64 `json:"total"`
}

// BacktestEnd is the payload of fraud.backtest_finished.v1: the report as JSON, or
// why there is none.
type BacktestEnd struct {
	Instance uuid.UUID `json:"instance"`
	// Events have been worked through, of Total.
	Events uint64          `json:"events"`
	Total  uint64          `json:"total"`
	Error  string          `json:"error,omitempty"`
	Report json.RawMessage `json:"report,omitempty"`
}

// BacktestWithdrawal is the payload of fraud.backtest_cancelled.v1 and
// backtest_removed.
type BacktestWithdrawal struct {
	By uuid.UUID `json:"by"`
}
