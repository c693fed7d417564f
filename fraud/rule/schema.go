package rule

import _ "embed"

// Schema is the JSON Schema of a rule as JSON, for editors and other programs. What it
// refuses, Parse refuses; Parse knows more, such as which lengths of time go together.
//
//go:embed schema.json
var Schema []byte
