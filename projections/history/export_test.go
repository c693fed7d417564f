package history

import "github.com/meet5/backend/projections/export"

// MaxParquet is how many exports in Parquet are written at once.
const MaxParquet = maxParquet

// Negotiate picks a format by Accept headers.
func Negotiate(headers ...string) (export.Format, bool) { return negotiate(headers) }
