package boltvault

import (
	"context"
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/events/subscription"
)

// checkpoints is group, log and partition → sequence.
type checkpoints struct{ vault *Vault }

// Checkpoints implements vault.Vault.
func (v *Vault) Checkpoints() subscription.Checkpoints { return checkpoints{v} }

func checkpointKey(group, log string, partition int) []byte {
	return fmt.Appendf(nil, "%s/%s/%d", group, log, partition)
}

func (c checkpoints) Load(ctx context.Context, group, log string, partition int) (sequence uint64, err error) {
	err = c.vault.view(ctx, "load a checkpoint", func(tx *bolt.Tx) error {
		if b := bucket(tx, checkpointsBucket).Get(checkpointKey(group, log, partition)); len(b) == 8 {
			sequence = binary.BigEndian.Uint64(b)
		}
		return nil
	})
	return sequence, err
}

func (c checkpoints) Save(ctx context.Context, group, log string, partition int, sequence uint64) error {
	return c.vault.update(ctx, "save a checkpoint", func(tx *bolt.Tx) error {
		b, key := bucket(tx, checkpointsBucket), checkpointKey(group, log, partition)
		if there := b.Get(key); len(there) == 8 && binary.BigEndian.Uint64(there) >= sequence {
			return nil
		}
		return b.Put(key, binary.BigEndian.AppendUint64(nil, sequence))
	})
}
