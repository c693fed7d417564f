package backend

import "path/filepath"

// LogFile is the file that the logs are in, where the data is in files.
func (w Where) LogFile() string { return filepath.Join(w.Data, logFile) }
