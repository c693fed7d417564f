// Package history proves from what was seen from outside that the backend kept its
// promises: what clients asked and were told, what subscribers were handed, what
// the logs hold in the end, and what the read models say.
//
// A Recorder takes it down while clients and subscribers run and things are
// killed around them; Check holds it against the logs:
//
//	lost                acknowledged, and not in the log, or not where it was said to be
//	refused but written refused with a conflict, and in the log all the same
//	repeated            one ID twice in a log, or acknowledged at two positions
//	torn                a part of an append is in the log, or it is in two commits
//	version             a stream's versions are not 1, 2, 3 … in order, are not those
//	                    that were asked for, or one was acknowledged to two
//	claim               a claim held by two events of a partition, one that was asked
//	                    for and not taken, or one acknowledged to two
//	disordered          an event stands before one that was acknowledged before it was
//	                    asked for (in the whole partition, which is more than in its
//	                    stream), or an append's events are not in their order, in one run
//	misplaced           an event in a partition that is not its stream's
//	sparse              sequences that are not 1, 2, 3 …, a head that is not the last
//	                    event's, or recorded time that runs backwards
//	unasked             an event that nobody asked for, of those types all of whose
//	                    writers were recorded (Exclusive), or one whose type or stream
//	                    is not what was asked for under its ID
//	foreign             handed to a subscriber and not what the log holds there
//	gap                 handed to a subscriber before its predecessor was
//	redelivered         handed to a subscriber again with no restart in between
//	undelivered         never handed to a subscriber that should have seen all (Complete)
//	read model          what a user sees is not what the log folds to (CompareViews)
//
// It promises that
//   - it reports nothing that was promised to nobody: an append of unknown outcome
//     may be in the log or not, a retry may be answered with the first position,
//     and an ID may be written again once it has left log.Window, the retained
//     window of the log;
//   - it finds every breach of these rules that the recorded history shows, but
//     for torn appends and their inner order where an ID was asked for in two
//     different companies: either may have written it;
//   - a violation names the calls, log entries and deliveries that show it, and
//     nothing else; of one rule a handful is listed for each partition, and the
//     rest counted;
//   - memory is bounded by what was recorded: 56 bytes for each event that was
//     asked for, 40 for each call and 24 for each delivery; during a Check 8 more
//     for each event asked for, about 48 for each different ID, 24 for each event
//     of the largest partition and 8 for each commit; and what versioned streams
//     and claims take in maps. Two million events, asked for and delivered, are
//     checked in seconds (BenchmarkCheck);
//   - what a client was told is compared, not what it should have been told: a
//     conflict without a cause is no violation.
//
// An ID stands for one event of one log. Clients that use one ID for two streams
// are not for this package.
package history
