package boltvault

import (
	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/events/subscription"
)

// file is the vault's file to its ledger, which must not meet it half replaced.
type file struct{ vault *Vault }

// Update implements boltledger.File.
func (f file) Update(do func(tx *bolt.Tx) error) error { return f.vault.run((*bolt.DB).Update, do) }

// View implements boltledger.File.
func (f file) View(do func(tx *bolt.Tx) error) error { return f.vault.run((*bolt.DB).View, do) }

// Ledger implements vault.Vault.
func (v *Vault) Ledger() subscription.Ledger { return v.ledger }
