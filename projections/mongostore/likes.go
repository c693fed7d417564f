package mongostore

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/meet5/backend/projections/views"
)

// likeDoc is a document of the likes. It stays when the like is withdrawn, and is
// made even by a withdrawal, for its position: an older like that arrives late
// must find it.
type likeDoc struct {
	Pair pair   `bson:",inline"`
	At   *int64 `bson:"at,omitempty"`
}

func (d *likeDoc) common() *pair { return &d.Pair }

func (d *likeDoc) fold(changes []views.Change) {
	for _, c := range changes {
		switch {
		case c.Kind == views.Withdrawn:
			d.At = nil
		case d.At == nil:
			d.At = new(c.At.UnixMicro())
		}
	}
}

func (d *likeDoc) fields() (set, unset bson.D) {
	if d.At == nil {
		return nil, bson.D{{Key: "at", Value: ""}}
	}
	return bson.D{{Key: "at", Value: *d.At}}, nil
}
