package mongolog_test

import (
	"errors"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/events/servertest"
)

func TestCreateMayBeRepeated(t *testing.T) {
	db := servertest.Database(t, "mongolog")
	newStore(t, db, 3)
	s := mongolog.Open(db, logName, 3)
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	insert(t, s, commitOf(t, 1, 1, 2, 10), "claim:anna")
	if err := mongolog.Create(t.Context(), db, logName, 3); err != nil {
		t.Fatal(err)
	}
	if head, err := s.Head(t.Context(), 1); err != nil || head != 2 {
		t.Fatalf("head %d (%v) after a second Create, want 2", head, err)
	}
	if err := s.Insert(t.Context(), commitOf(t, 1, 3, 1, 10), []string{"claim:anna"}); !errors.Is(err, log.ErrTaken) {
		t.Fatalf("a held key after a second Create: %v, want ErrTaken", err)
	}
}

// TestCreateReplacesTheIndexOfAnEarlierBuild: keys stay held, and are found.
func TestCreateReplacesTheIndexOfAnEarlierBuild(t *testing.T) {
	db := servertest.Database(t, "mongolog")
	newStore(t, db, 1)
	part := db.Collection("activity.p00")
	if err := part.Indexes().DropOne(t.Context(), "held"); err != nil {
		t.Fatal(err)
	}
	sparse := options.Index().SetName("keys").SetUnique(true).SetSparse(true)
	if _, err := part.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: bson.D{{Key: "k", Value: 1}}, Options: sparse}); err != nil {
		t.Fatal(err)
	}
	s := mongolog.Open(db, logName, 1)
	if err := s.Check(t.Context()); !errors.Is(err, mongolog.ErrNotReady) {
		t.Fatalf("%v, want ErrNotReady", err)
	}
	insert(t, s, commitOf(t, 0, 1, 2, 10), "claim:anna")
	if err := mongolog.Create(t.Context(), db, logName, 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Insert(t.Context(), commitOf(t, 0, 3, 1, 10), []string{"claim:anna"}); !errors.Is(err, log.ErrTaken) {
		t.Errorf("a held key: %v, want ErrTaken", err)
	}
	if held, err := s.Held(t.Context(), 0, []string{"claim:anna", "claim:bert"}); err != nil || !held["claim:anna"] || held["claim:bert"] {
		t.Errorf("held are %v (%v), want anna's alone", held, err)
	}
	indexes, err := part.Indexes().ListSpecifications(t.Context())
	if err != nil || len(indexes) != 2 {
		t.Errorf("there are %d indexes (%v), want that of _id and one of keys", len(indexes), err)
	}
}

func TestTheNumberOfPartitionsIsFixed(t *testing.T) {
	db := servertest.Database(t, "mongolog")
	newStore(t, db, 3)
	for name, err := range map[string]error{
		"create": mongolog.Create(t.Context(), db, logName, 4),
		"check":  mongolog.Open(db, logName, 4).Check(t.Context()),
	} {
		if err == nil || errors.Is(err, mongolog.ErrNotReady) || !strings.Contains(err.Error(), "log activity: it was made with 3 partitions, not 4") {
			t.Errorf("%s: %v, want an error with both numbers", name, err)
		}
	}
	names, err := db.ListCollectionNames(t.Context(), bson.D{{Key: "name", Value: "activity.p03"}})
	if err != nil || len(names) != 0 {
		t.Errorf("a refused Create left %v (%v)", names, err)
	}
	for _, n := range []int{0, -1, 1<<16 + 1} {
		if err := mongolog.Create(t.Context(), db, "other", n); err == nil {
			t.Errorf("a log of %d partitions was created", n)
		}
	}
}

func TestCheckSaysWhatIsMissingAndWhatToRun(t *testing.T) {
	db := servertest.Database(t, "mongolog")
	s := mongolog.Open(db, logName, 2)
	expect := func(want string) {
		t.Helper()
		err := s.Check(t.Context())
		if !errors.Is(err, mongolog.ErrNotReady) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "meet5 migrate up") {
			t.Errorf("%v, want ErrNotReady with %q", err, want)
		}
	}
	expect("never created")
	newStore(t, db, 2)
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	part := db.Collection("activity.p01")
	if err := part.Indexes().DropOne(t.Context(), "held"); err != nil {
		t.Fatal(err)
	}
	expect(`activity.p01 has no unique index on "k"`)
	exists := bson.D{{Key: "k", Value: bson.D{{Key: "$exists", Value: true}}}}
	for name, weak := range map[string]*options.IndexOptionsBuilder{
		"that others may hold too":      options.Index().SetPartialFilterExpression(exists),
		"that an earlier build made":    options.Index().SetUnique(true).SetSparse(true),
		"of commits that nobody writes": options.Index().SetUnique(true).SetPartialFilterExpression(bson.D{{Key: "x", Value: bson.D{{Key: "$exists", Value: true}}}}),
	} {
		if _, err := part.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: bson.D{{Key: "k", Value: 1}}, Options: weak.SetName("weak")}); err != nil {
			t.Fatal(name, err)
		}
		expect(`activity.p01 has no unique index on "k"`)
		if err := part.Indexes().DropOne(t.Context(), "weak"); err != nil {
			t.Fatal(name, err)
		}
	}
	if err := part.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("activity.p01")
	newStore(t, db, 2)
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	later := bson.D{{Key: "$set", Value: bson.D{{Key: "format", Value: 2}}}}
	if _, err := db.Collection("logs").UpdateByID(t.Context(), logName, later); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "format 2, this build knows 1") {
		t.Errorf("%v, want the two formats", err)
	}
}
