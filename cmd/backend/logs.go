package backend

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/events/subscription/boltledger"
	"github.com/meet5/backend/events/subscription/mongoledger"
	"github.com/meet5/backend/migrations"
)

// LogFile is the file that the logs are in, where the data is in files.
func (w Where) LogFile() string { return filepath.Join(w.Data, logFile) }

// CheckpointsInFiles tells how far subscriptions have come, of those that remember
// it, where the data is in files that nobody has open. What it found counts even if
// there is an error, too.
func (w Where) CheckpointsInFiles(ctx context.Context) (all []subscription.Checkpoint, err error) {
	for _, name := range []string{userFile, activityFile, fraudFile, fraudKeysFile} {
		some, failed := boltledger.ListFile(ctx, filepath.Join(w.Data, name))
		all, err = append(all, some...), errors.Join(err, failed)
	}
	return all, err
}

// Checkpoints is CheckpointsInFiles for MongoDB.
func Checkpoints(ctx context.Context, dbs migrations.Databases) (all []subscription.Checkpoint, err error) {
	for _, db := range ledgers(dbs) {
		some, failed := mongoledger.Open(db).List(ctx)
		all, err = append(all, some...), errors.Join(err, failed)
	}
	return all, err
}
