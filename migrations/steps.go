package migrations

import (
	"context"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log/mongolog"
)

// Steps are the steps that the logs need, sorted by version. Those of the services
// follow them in cmd/backend, since only that may know the services; a new step goes
// at the end there.
func Steps() []Step {
	return []Step{
		{1, "create the user log", createLog(events.UserLog, events.UserPartitions)},
		{2, "create the activity log", createLog(events.ActivityLog, events.ActivityPartitions)},
		{3, "create the fraud log", createLog(events.FraudLog, events.FraudPartitions)},
		{4, "spread the activity log over the shards", spreadLog(events.ActivityLog, events.ActivityPartitions)},
	}
}

func createLog(name string, partitions int) func(context.Context, Databases) error {
	return func(ctx context.Context, d Databases) error {
		return mongolog.Create(ctx, d.Log, name, partitions)
	}
}

// spreadLog places a log's partitions on the shards in turn. A partition's
// collection stays whole: MongoDB allows no unique index beside the shard key's,
// and the partition's keys must be unique.
func spreadLog(name string, partitions int) func(context.Context, Databases) error {
	return func(ctx context.Context, d Databases) error {
		collections := make([]string, partitions)
		for i := range collections {
			collections[i] = mongolog.CollectionName(name, i)
		}
		return spread(ctx, d.Log, collections)
	}
}
