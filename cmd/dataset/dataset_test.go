package dataset_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/cmd/dataset"
)

var columns = dataset.Columns{Actor: "u", Target: "i", Time: "ts", Label: "label"}

func read(t *testing.T, text string, c dataset.Columns) (rows []dataset.Row, faults []string) {
	t.Helper()
	r, err := dataset.NewReader(strings.NewReader(text), c, dataset.Members{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		row, err := r.Next()
		var fault *dataset.RowError
		switch {
		case errors.Is(err, io.EOF):
			return rows, faults
		case errors.As(err, &fault):
			faults = append(faults, fault.Error())
		case err != nil:
			t.Fatal(err)
		default:
			rows = append(rows, row)
		}
	}
}

func TestRowsBecomeActivitiesOfMembersWhoJoinWhenTheyFirstAppear(t *testing.T) {
	rows, faults := read(t, "u,i,ts,label\na,b,10,0\nb,a,2026-01-02T03:04:05.678Z,1\na,c,12.5,\n", columns)
	if len(faults) > 0 || len(rows) != 3 {
		t.Fatalf("%d rows, faults %v", len(rows), faults)
	}
	first, second, third := rows[0], rows[1], rows[2]
	if first.Kind != activity.Visit || first.Line != 2 || !first.At.Equal(time.Unix(10, 0)) || first.Label != "" {
		t.Errorf("first row %+v", first)
	}
	if second.Actor != first.Target || second.Label != "1" || !second.Actor.JoinedAt.Equal(time.Unix(10, 0)) ||
		!second.At.Equal(time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)) {
		t.Errorf("second row %+v", second)
	}
	if !third.At.Equal(time.Unix(12, 5e8)) || third.Actor != first.Actor {
		t.Errorf("third row %+v", third)
	}
}

func TestABadRowIsNamedAndDoesNotStopTheRest(t *testing.T) {
	rows, faults := read(t, "u,i,ts,label\na,b,1,0\na,b\n,b,1,0\na,,1,0\na,a,1,0\na,b,soon,0\na,b,-4,0\na,\"b\"x,1,0\na,b,2,0\n", columns)
	if len(rows) != 2 {
		t.Errorf("%d good rows, want 2", len(rows))
	}
	want := []string{
		"line 3: it has 2 fields", "line 4, column u: is empty", "line 5, column i: is empty", "line 6, column i: is the actor",
		`line 7, column ts: "soon" is neither`, `line 8, column ts: "-4" is neither`, "line 9: ",
	}
	if len(faults) != len(want) {
		t.Fatalf("faults %q", faults)
	}
	for i := range want {
		if !strings.HasPrefix(faults[i], want[i]) {
			t.Errorf("fault %q, want %q …", faults[i], want[i])
		}
	}
}

func TestTheTypeIsFixedOrAColumn(t *testing.T) {
	if rows, _ := read(t, "u,i,ts\na,b,1\n", dataset.Columns{Actor: "u", Target: "i", Time: "ts", Type: "like"}); rows[0].Kind != activity.Like {
		t.Errorf("kind %s, want like", rows[0].Kind)
	}
	rows, faults := read(t, "u,i,ts,k\na,b,1,visit\na,b,1,like\na,b,1,poke\n", dataset.Columns{Actor: "u", Target: "i", Time: "ts", Type: "k"})
	if len(rows) != 2 || rows[1].Kind != activity.Like || len(faults) != 1 {
		t.Errorf("rows %+v faults %v", rows, faults)
	}
}

func TestAMissingColumnIsNamedWithThoseThereAre(t *testing.T) {
	_, err := dataset.NewReader(strings.NewReader("u,i,when\n"), columns, dataset.Members{})
	var missing *dataset.ColumnError
	if !errors.As(err, &missing) || missing.Flag != "time" || !strings.Contains(err.Error(), "u, i, when") {
		t.Fatalf("got %v", err)
	}
}

func TestIDsAreTheSameAtEachReading(t *testing.T) {
	const text = "u,i,ts,label\na,b,1,0\na,b,1,0\n"
	one, _ := read(t, text, columns)
	two, _ := read(t, text, columns)
	if one[0].ID() != two[0].ID() || one[0].Actor.ID != two[0].Actor.ID {
		t.Error("the same row has another ID at the second reading")
	}
	if one[0].ID() == one[1].ID() {
		t.Error("two like rows share an ID")
	}
	id := uuid.New()
	if dataset.MemberID(id.String()) != id {
		t.Error("a member's UUID is not kept")
	}
}

func TestAUUIDIsTheSameMemberHoweverItIsWritten(t *testing.T) {
	const text = "u,i,ts\n" +
		"9B0E2B3C-2C1F-4B6E-8A44-0C5D7A3E9F10,b,1\n" +
		"9b0e2b3c-2c1f-4b6e-8a44-0c5d7a3e9f10,b,2\n" +
		"9b0e2b3c-2c1f-4b6e-8a44-0c5d7a3e9f10,9B0E2B3C-2C1F-4B6E-8A44-0C5D7A3E9F10,3\n" +
		"b,00000000-0000-0000-0000-000000000000,4\n" +
		"not-a-uuid-but-as-long-as-one-is-yes,b,5\n"
	rows, faults := read(t, text, dataset.Columns{Actor: "u", Target: "i", Time: "ts"})
	if len(rows) != 3 || rows[0].Actor != rows[1].Actor || rows[0].Actor.ID.String() != "9b0e2b3c-2c1f-4b6e-8a44-0c5d7a3e9f10" {
		t.Errorf("rows %+v", rows)
	}
	want := []string{"line 4, column i: is the actor", "line 5, column i: is the nil UUID"}
	if !slices.EqualFunc(faults, want, strings.HasPrefix) {
		t.Errorf("faults %q", faults)
	}
}

func TestALabelIsWhatSaysSomethingBad(t *testing.T) {
	text := "u,i,ts,label\na,b,1,no\na,b,2,OK\na,b,3,0.0\na,b,4,banned\na,b,5," + strings.Repeat("x", 200) + "\na,b,6,\x00\n"
	rows, faults := read(t, text, columns)
	if len(rows) != 4 || rows[0].Label+rows[1].Label+rows[2].Label != "" || rows[3].Label != "banned" {
		t.Errorf("rows %+v", rows)
	}
	if len(faults) != 2 || !strings.HasPrefix(faults[0], "line 6, column label: ") || !strings.HasPrefix(faults[1], "line 7, column label: ") {
		t.Errorf("faults %q", faults)
	}
}

func TestAFileWithoutColumnsIsRefused(t *testing.T) {
	if _, err := dataset.NewReader(strings.NewReader(""), columns, dataset.Members{}); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("an empty file: %v", err)
	}
	_, err := dataset.NewReader(strings.NewReader("a,b\n"), dataset.Columns{Target: "b", Time: "a"}, dataset.Members{})
	if err == nil || err.Error() != "--actor: is missing; the file has the columns a, b" {
		t.Errorf("no name of a column: %v", err)
	}
}
