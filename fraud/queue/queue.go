// Package queue is the backtests that were asked for: who works on which, and what
// has come of them. Everything is in the fraud log, one stream a backtest:
//
//	requested ──► queued ── started ──► running ── finished ──► done or failed
//	                │ ▲                  │  │
//	                │ └──── returned ────┘  └── started by another, when it is stale
//	                └── cancelled ───────┴─► cancelled
//
// It promises that
//   - any instance answers for any backtest, and a backtest outlives the instance
//     that was asked for it and the one that works on it;
//   - a step is an append under the stream's next version, so that of two
//     instances that take one backtest one has it, and what a backtest has come to
//     is never overwritten by somebody who has lost it;
//   - an instance works on one at a time, the oldest first. It says every
//     BeatEvery that it is still at it; if it has not for Stale, another takes the
//     backtest over and begins anew. After MaxStarts such beginnings it has failed;
//   - memory is bounded: the register holds summaries, at most MaxKept of those
//     that have ended, for Keep. Reports are read from the log.
//
// Whether an instance is stale is told by its clock and the looker's: hosts' clocks
// must agree to well within Stale.
package queue

import "time"

const (
	// MaxWaiting is how many backtests may be queued. Instances that are asked at
	// the same moment may let in one more each.
	MaxWaiting = 16
	// MaxKept is how many that have ended are still known, the latest.
	MaxKept = 100
	// Keep is for how long.
	Keep = 24 * time.Hour
	// BeatEvery is how often the instance at work says so.
	BeatEvery = 5 * time.Second
	// Stale is the age of the last such word at which the instance counts as lost.
	Stale = 30 * time.Second
	// MaxStarts is how often a backtest is begun whose instances get lost, lest
	// it takes all of them with it.
	MaxStarts = 3

	// lookEvery is how often an idle instance looks for stale ones.
	lookEvery = time.Second
	// appendTimeout bounds the wait for an append to become durable.
	appendTimeout = 5 * time.Second
)
