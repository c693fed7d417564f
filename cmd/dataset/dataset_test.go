package dataset_test

import (
	"errors"
	"io"
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
