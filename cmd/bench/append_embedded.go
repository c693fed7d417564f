package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"

	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
)

// appendEmbedded is durable appends in batches into a file, in events a second. The
// limit puts the same bytes under the same keys, one commit of each partition a
// transaction, each transaction synced: as much as a transaction can share.
var appendEmbedded = Work{
	Name:    "append-embedded",
	Ours:    "log.Append on a file, 16 partitions, 64 callers in batches of 250, commits of about 500 as they form",
	Limit:   "bare bbolt that puts the same bytes, one commit of every partition a transaction",
	Figures: []Figure{{Unit: "events/s"}},
	open: func(_ context.Context, s *site) (turn, error) {
		dir, err := s.folder()
		if err != nil {
			return nil, err
		}
		store, err := openBolt(s, filepath.Join(dir, "ours.db"))
		if err != nil {
			return nil, err
		}
		bare, err := newBareBolt(s, filepath.Join(dir, "bare.db"))
		if err != nil {
			return nil, err
		}
		var written [partitions][]events.Commit
		l := log.New(store, log.Options{Committed: func(c events.Commit) {
			written[c.Partition] = append(written[c.Partition], c)
		}})
		s.onClose(func(context.Context) error { l.Close(); return nil })
		load := s.newBatches(batchCallers, 1)
		return func(ctx context.Context) ([]Pair, error) {
			var pair Pair
			if pair.Ours, err = loop(ctx, batchCallers, s.For, func(ctx context.Context, caller int) (int, error) {
				return load.append(ctx, l, caller, caller%partitions)
			}); err != nil {
				return nil, err
			}
			pair.Limit, err = putBare(bare, &written)
			return []Pair{pair}, err
		}, nil
	},
}

// openBolt opens a file with an activity log until the work ends.
func openBolt(s *site, path string) (*boltlog.Store, error) {
	db, err := boltlog.Open(path)
	if err != nil {
		return nil, err
	}
	s.onClose(func(context.Context) error { return db.Close() })
	return db.Log(events.ActivityLog, partitions)
}

// newBareBolt opens a file with a bucket for each partition, as boltlog opens its.
func newBareBolt(s *site, path string) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s.onClose(func(context.Context) error { return db.Close() })
	return db, db.Update(func(tx *bolt.Tx) error {
		for p := range partitions {
			if _, err := tx.CreateBucketIfNotExists(bucket(p)); err != nil {
				return err
			}
		}
		return nil
	})
}

func bucket(partition int) []byte { return []byte{byte(partition)} }

// putBare puts the commits, takes them out of the lists, and returns the events a
// second.
func putBare(db *bolt.DB, commits *[partitions][]events.Commit) (float64, error) {
	return clocked(func() (n int, err error) {
		for more := true; more; {
			more = false
			if err := db.Update(func(tx *bolt.Tx) error {
				for p := range commits {
					if len(commits[p]) == 0 {
						continue
					}
					c := commits[p][0]
					commits[p], n, more = commits[p][1:], n+c.Count, true
					b := tx.Bucket(bucket(p))
					b.FillPercent = 1
					if err := b.Put(binary.BigEndian.AppendUint64(nil, c.First), c.Bytes()); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				return n, fmt.Errorf("bare bbolt: %w", err)
			}
		}
		return n, nil
	})
}
