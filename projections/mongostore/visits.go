package mongostore

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/meet5/backend/projections/views"
)

// visitDoc is a document of the visits.
type visitDoc struct {
	Pair  pair  `bson:",inline"`
	Count int64 `bson:"n"`
	First int64 `bson:"f"`
	Last  int64 `bson:"l"`
}

func (d *visitDoc) common() *pair { return &d.Pair }

func (d *visitDoc) fold(changes []views.Change) {
	for _, c := range changes {
		at := c.At.UnixMicro()
		if d.Count == 0 {
			d.First, d.Last = at, at
		}
		d.Count++
		d.First, d.Last = min(d.First, at), max(d.Last, at)
	}
}

func (d *visitDoc) fields() (set, unset bson.D) { //nolint:unparam // other documents unset some
	return bson.D{{Key: "n", Value: d.Count}, {Key: "f", Value: d.First}, {Key: "l", Value: d.Last}}, nil
}
