package events

import (
	"encoding/json"
	"fmt"
)

// The logs, and how many partitions each has. The number is fixed when a log is
// created. A claim reaches as far as its partition, so user and fraud have one.
const (
	UserLog     = "user"
	ActivityLog = "activity"
	FraudLog    = "fraud"

	UserPartitions     = 1
	ActivityPartitions = 16
	FraudPartitions    = 1
)

// Event types. A name is written out, versioned, and never changes.
const (
	UserRegistered       = "user.registered.v1"
	UserProfileChanged   = "user.profile_changed.v1"
	UserRolesChanged     = "user.roles_changed.v1"
	UserMarkedFraudulent = "user.marked_fraudulent.v1"
	UserCleared          = "user.cleared.v1"
	UserErased           = "user.erased.v1"

	ProfileVisited = "activity.profile_visited.v1"
	ProfileLiked   = "activity.profile_liked.v1"
	LikeWithdrawn  = "activity.like_withdrawn.v1"
	ActorHidden    = "activity.actor_hidden.v1"
	ActorRestored  = "activity.actor_restored.v1"

	BacktestRequested  = "fraud.backtest_requested.v1"
	BacktestStarted    = "fraud.backtest_started.v1"
	BacktestProgressed = "fraud.backtest_progressed.v1"
	BacktestReturned   = "fraud.backtest_returned.v1"
	BacktestFinished   = "fraud.backtest_finished.v1"
	BacktestCancelled  = "fraud.backtest_cancelled.v1"
	BacktestRemoved    = "fraud.backtest_removed.v1"
	BulkDecided        = "fraud.bulk_decided.v1"
	BulkUndone         = "fraud.bulk_undone.v1"
	DecisionUndone     = "fraud.decision_undone.v1"

	FlagRaised      = "fraud.flag_raised.v1"
	FlagConfirmed   = "fraud.flag_confirmed.v1"
	FlagDismissed   = "fraud.flag_dismissed.v1"
	FlagEscalated   = "fraud.flag_escalated.v1"
	FlagExpired     = "fraud.flag_expired.v1"
	FlagAppealed    = "fraud.flag_appealed.v1"
	FlagUpheld      = "fraud.flag_upheld.v1"
	FlagOverturned  = "fraud.flag_overturned.v1"
	FlagAssigned    = "fraud.flag_assigned.v1"
	FlagNoted       = "fraud.flag_noted.v1"
	RuleDefined     = "fraud.rule_defined.v2"
	RuleModeChanged = "fraud.rule_mode_changed.v1"
	RuleTookEffect  = "fraud.rule_took_effect.v1"
	OrderCut        = "fraud.order_cut.v1"
)

// Kind is an entry of the catalogue: what is known of an event type.
type Kind struct {
	// Type is the event type's name.
	Type string
	// Log is the log that holds it.
	Log string
	// Stream says what its stream is.
	Stream string
	// New makes an empty payload to decode into.
	New func() any
}

// catalogue is sorted by type. A new event type is its payload and one line.
var catalogue = []Kind{
	{ActorHidden, ActivityLog, "the actor", func() any { return new(Visibility) }},
	{ActorRestored, ActivityLog, "the actor", func() any { return new(Visibility) }},
	{LikeWithdrawn, ActivityLog, "the actor", func() any { return new(Activity) }},
	{ProfileLiked, ActivityLog, "the actor", func() any { return new(Activity) }},
	{ProfileVisited, ActivityLog, "the actor", func() any { return new(Activity) }},

	{BacktestCancelled, FraudLog, "the backtest", func() any { return new(BacktestWithdrawal) }},
	{BacktestFinished, FraudLog, "the backtest", func() any { return new(BacktestEnd) }},
	{BacktestProgressed, FraudLog, "the backtest", func() any { return new(BacktestStep) }},
	{BacktestRemoved, FraudLog, "the backtest", func() any { return new(BacktestWithdrawal) }},
	{BacktestRequested, FraudLog, "the backtest", func() any { return new(BacktestRequest) }},
	{BacktestReturned, FraudLog, "the backtest", func() any { return new(BacktestStep) }},
	{BacktestStarted, FraudLog, "the backtest", func() any { return new(BacktestStep) }},
	{BulkDecided, FraudLog, "the bulk operation", func() any { return new(BulkDecision) }},
	{BulkUndone, FraudLog, "the bulk operation", func() any { return new(BulkUndo) }},
	{DecisionUndone, FraudLog, "the flag", func() any { return new(UndoneDecision) }},
	{FlagAppealed, FraudLog, "the flag", func() any { return new(Appeal) }},
	{FlagAssigned, FraudLog, "the flag", func() any { return new(Assignment) }},
	{FlagConfirmed, FraudLog, "the flag", func() any { return new(Decision) }},
	{FlagDismissed, FraudLog, "the flag", func() any { return new(Decision) }},
	{FlagEscalated, FraudLog, "the flag", func() any { return new(Decision) }},
	{FlagExpired, FraudLog, "the flag", func() any { return new(Expiry) }},
	{FlagNoted, FraudLog, "the flag", func() any { return new(Note) }},
	{FlagOverturned, FraudLog, "the flag", func() any { return new(Decision) }},
	{FlagRaised, FraudLog, "the flag", func() any { return new(Flag) }},
	{FlagUpheld, FraudLog, "the flag", func() any { return new(Decision) }},
	{OrderCut, FraudLog, "the order", func() any { return new(Cut) }},
	{RuleDefined, FraudLog, "the rule", func() any { return new(RuleDefinition) }},
	{RuleModeChanged, FraudLog, "the rule", func() any { return new(RuleMode) }},
	{RuleTookEffect, FraudLog, "the rule", func() any { return new(RuleEffect) }},

	{UserCleared, UserLog, "the user", func() any { return new(Standing) }},
	{UserErased, UserLog, "the user", func() any { return new(Erasure) }},
	{UserMarkedFraudulent, UserLog, "the user", func() any { return new(Standing) }},
	{UserProfileChanged, UserLog, "the user", func() any { return new(ProfileChange) }},
	{UserRegistered, UserLog, "the user", func() any { return new(Registration) }},
	{UserRolesChanged, UserLog, "the user", func() any { return new(Roles) }},
}

// Catalogue lists every event type that this build knows, sorted by log and
// type. The caller must not change it.
func Catalogue() []Kind { return catalogue }

// Known returns the catalogue's entry for an event type.
func Known(eventType string) (Kind, bool) {
	for i := range catalogue {
		if catalogue[i].Type == eventType {
			return catalogue[i], true
		}
	}
	return Kind{}, false
}

// Unmarshal reads the event's data into the payload type of its catalogue entry.
func Unmarshal[T any](e Recorded) (T, error) {
	var p T
	if err := json.Unmarshal(e.Data, &p); err != nil {
		return p, fmt.Errorf("read %s %s at %d/%d: %w", e.Type, e.ID, e.Partition, e.Sequence, err)
	}
	return p, nil
}
