package projections

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// partitionItem is how the read models stand in one partition of a log.
type partitionItem struct {
	Group     string `json:"group"`
	Log       string `json:"log"`
	Partition int    `json:"partition"`
	Position  uint64 `json:"position"` // the last event in the read models
	Head      uint64 `json:"head"`     // the last event known to exist
	Lag       uint64 `json:"lag"`      // how many events lie between
	Heartbeat string `json:"heartbeat,omitempty"`
	Failures  int    `json:"failures"` // in a row
}

// status answers with every partition. What went wrong is in the log only: it may
// name hosts.
func (s *Service) status(c echo.Context) error {
	status := s.sub.Status()
	items := make([]partitionItem, len(status))
	for i, p := range status {
		items[i] = partitionItem{
			Group: p.Group, Log: p.Log, Partition: p.Partition,
			Position: p.Position, Head: p.Head, Lag: p.Head - min(p.Head, p.Position),
			Heartbeat: shown(p.Heartbeat), Failures: p.Failures,
		}
	}
	return c.JSON(http.StatusOK, map[string]any{"items": items})
}

// shown is empty for a time that has not come yet.
func shown(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return show(t)
}
