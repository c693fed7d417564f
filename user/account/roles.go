package account

import (
	"fmt"
	"slices"
	"strings"
)

// MaxRoles bounds a list of roles as it is given, repetitions included.
const MaxRoles = 16

// KnownRoles are the roles that an account may have, sorted.
func KnownRoles() []string { return []string{"admin", "analyst", "moderator", "service"} }

// Roles returns a list of roles sorted and without repetitions.
func Roles(given []string) ([]string, []Fault) {
	known := KnownRoles()
	var f faults
	if len(given) > MaxRoles {
		f.add("roles", fmt.Sprintf("must have at most %d elements", MaxRoles))
		return nil, f
	}
	for i, role := range given {
		if !slices.Contains(known, role) {
			f.add(fmt.Sprintf("roles[%d]", i), "must be one of "+strings.Join(known, ", "))
		}
	}
	sorted := slices.Sorted(slices.Values(given))
	return slices.Compact(sorted), f
}
