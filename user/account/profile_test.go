package account_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/user/account"
)

var today = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func good() account.Registration {
	return account.Registration{
		Handle: "anna", Email: "anna@example.org", Password: "correct horse", DisplayName: "Anna",
		BirthDate: "1990-05-06", City: "Berlin", About: "Hello.\nI like hiking.",
	}
}

func TestAGoodRegistrationIsTidiedUp(t *testing.T) {
	r := good()
	r.DisplayName, r.City, r.About = "  Re\u0301my \u202f", "\tBerlin ", " as written\n"
	got, faults := r.Personal(today)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	want := events.Personal{
		Handle: "anna", Email: "anna@example.org", DisplayName: "R\u00e9my", BirthDate: "1990-05-06",
		City: "Berlin", About: " as written\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("personal data (-want +got):\n%s", diff)
	}
}

func TestEachFieldHasItsBounds(t *testing.T) {
	long := func(n int) string { return strings.Repeat("\u00fc", n) }
	for _, c := range []struct {
		name  string
		set   func(*account.Registration)
		field string // at fault; none if empty
	}{
		{"as it is", func(*account.Registration) {}, ""},
		{"a bad handle", func(r *account.Registration) { r.Handle = "a" }, "handle"},
		{"a bad e-mail", func(r *account.Registration) { r.Email = "a" }, "email"},
		{"a password of 7", func(r *account.Registration) { r.Password = long(7) }, "password"},
		{"a password of 8", func(r *account.Registration) { r.Password = long(8) }, ""},
		{"a password of 128", func(r *account.Registration) { r.Password = long(128) }, ""},
		{"a password of 129", func(r *account.Registration) { r.Password = long(129) }, "password"},
		{"no display name", func(r *account.Registration) { r.DisplayName = "" }, "display_name"},
		{"a blank display name", func(r *account.Registration) { r.DisplayName = " \u00a0" }, "display_name"},
		{"a display name of 80", func(r *account.Registration) { r.DisplayName = long(80) }, ""},
		{"a display name of 81", func(r *account.Registration) { r.DisplayName = long(81) }, "display_name"},
		{"a family of emoji", func(r *account.Registration) { r.DisplayName = "👩‍👩‍👧" }, ""},
		{"a display name with a line break", func(r *account.Registration) { r.DisplayName = "a\nb" }, "display_name"},
		{"a display name with a line separator", func(r *account.Registration) { r.DisplayName = "a\u2028b" }, "display_name"},
		{"a display name that turns direction", func(r *account.Registration) { r.DisplayName = "a\u202eb" }, "display_name"},
		{"a display name with an isolate", func(r *account.Registration) { r.DisplayName = "a\u2066b" }, "display_name"},
		{"no city", func(r *account.Registration) { r.City = "" }, ""},
		{"a city of 81", func(r *account.Registration) { r.City = long(81) }, "city"},
		{"a city with a bell", func(r *account.Registration) { r.City = "a\ab" }, "city"},
		{"nothing about", func(r *account.Registration) { r.About = "" }, ""},
		{"about of 2000", func(r *account.Registration) { r.About = long(2000) }, ""},
		{"about of 2001", func(r *account.Registration) { r.About = long(2001) }, "about"},
		{"about with a carriage return", func(r *account.Registration) { r.About = "a\r\nb" }, "about"},
		{"no birth date", func(r *account.Registration) { r.BirthDate = "" }, "birth_date"},
		{"no date", func(r *account.Registration) { r.BirthDate = "1990-02-30" }, "birth_date"},
		{"a date with a time", func(r *account.Registration) { r.BirthDate = "1990-02-03T00:00:00Z" }, "birth_date"},
		{"a short date", func(r *account.Registration) { r.BirthDate = "1990-2-3" }, "birth_date"},
		{"18 today", func(r *account.Registration) { r.BirthDate = "2008-03-01" }, ""},
		{"18 tomorrow", func(r *account.Registration) { r.BirthDate = "2008-03-02" }, "birth_date"},
		{"120 until tomorrow", func(r *account.Registration) { r.BirthDate = "1905-03-02" }, ""},
		{"121 today", func(r *account.Registration) { r.BirthDate = "1905-03-01" }, "birth_date"},
		{"not born yet", func(r *account.Registration) { r.BirthDate = "2030-01-01" }, "birth_date"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := good()
			c.set(&r)
			_, faults := r.Personal(today)
			var want []string
			if c.field != "" {
				want = []string{c.field}
			}
			if diff := cmp.Diff(want, fields(faults)); diff != "" {
				t.Errorf("fields at fault (-want +got):\n%s", diff)
			}
		})
	}
}

func fields(faults []account.Fault) (names []string) {
	for _, f := range faults {
		names = append(names, f.Field)
	}
	return names
}

func TestAllFaultsAreReportedAtOnce(t *testing.T) {
	_, faults := account.Registration{City: "\x00", About: "\x00"}.Personal(today)
	want := []string{"handle", "email", "password", "display_name", "birth_date", "city", "about"}
	if diff := cmp.Diff(want, fields(faults)); diff != "" {
		t.Errorf("fields at fault (-want +got):\n%s", diff)
	}
}

func TestAChangeLeavesTheRestAsItIs(t *testing.T) {
	before := events.Personal{Handle: "anna", Email: "a@b", DisplayName: "Anna", BirthDate: "1990-05-06", City: "Berlin", About: "Hi"}
	text := func(s string) *string { return &s }
	for _, c := range []struct {
		name   string
		change account.Change
		want   func(*events.Personal)
		faults []string
	}{
		{"nothing", account.Change{}, func(*events.Personal) {}, nil},
		{"the display name", account.Change{DisplayName: text(" Anne ")}, func(p *events.Personal) { p.DisplayName = "Anne" }, nil},
		{"the birth date", account.Change{BirthDate: text("1991-01-01")}, func(p *events.Personal) { p.BirthDate = "1991-01-01" }, nil},
		{"city and about away", account.Change{City: text(""), About: text("")}, func(p *events.Personal) { p.City, p.About = "", "" }, nil},
		{"everything badly", account.Change{DisplayName: text(""), BirthDate: text("x"), City: text("\x01"), About: text("\x01")},
			nil, []string{"display_name", "birth_date", "city", "about"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, faults := c.change.Apply(before, today)
			if diff := cmp.Diff(c.faults, fields(faults)); diff != "" {
				t.Errorf("fields at fault (-want +got):\n%s", diff)
			}
			if c.want == nil {
				return
			}
			want := before
			c.want(&want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("profile (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAgeIsInWholeYears(t *testing.T) {
	for _, c := range []struct {
		born, on string
		want     int
	}{
		{"1990-05-06", "2026-05-05", 35},
		{"1990-05-06", "2026-05-06", 36},
		{"1990-12-31", "2026-01-01", 35},
		{"2008-02-29", "2026-02-28", 17},
		{"2008-02-29", "2026-03-01", 18},
		{"2008-02-29", "2028-02-29", 20},
	} {
		on, err := time.Parse(time.DateOnly, c.on)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := account.Age(c.born, on); !ok || got != c.want {
			t.Errorf("born %s, on %s: %d, %v, want %d", c.born, c.on, got, ok, c.want)
		}
	}
	east := time.FixedZone("east", 14*3600)
	if got, _ := account.Age("1990-05-06", time.Date(2026, 5, 6, 1, 0, 0, 0, east)); got != 35 {
		t.Errorf("a birthday that has come in the east only: %d, want 35 by UTC", got)
	}
	if _, ok := account.Age("", today); ok {
		t.Error("no birth date has an age")
	}
}

func TestRolesAreSortedKnownAndUnique(t *testing.T) {
	got, faults := account.Roles([]string{"service", "admin", "service", "analyst", "moderator"})
	if diff := cmp.Diff([]string{"admin", "analyst", "moderator", "service"}, got); diff != "" || faults != nil {
		t.Errorf("roles (-want +got):\n%s%v", diff, faults)
	}
	if got, faults := account.Roles(nil); len(got) != 0 || faults != nil {
		t.Errorf("no roles: %v, %v", got, faults)
	}
	_, faults = account.Roles([]string{"admin", "Admin", "", "king"})
	if diff := cmp.Diff([]string{"roles[1]", "roles[2]", "roles[3]"}, fields(faults)); diff != "" {
		t.Errorf("fields at fault (-want +got):\n%s", diff)
	}
	if _, faults := account.Roles(make([]string, account.MaxRoles+1)); len(faults) != 1 || faults[0].Field != "roles" {
		t.Errorf("too many roles: %v", faults)
	}
}
