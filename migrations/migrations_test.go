package migrations_test

import (
	"context"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/migrations"
)

func TestThePrefixIsFitForADatabasesName(t *testing.T) {
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://127.0.0.1:1")) // connects on first use
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	for _, prefix := range []string{"", "Meet5", "a.b", "a b", "a/b", "a$", "ä", strings.Repeat("a", 41)} {
		if _, err := migrations.Open(client, prefix); err == nil || !strings.Contains(err.Error(), "prefix") {
			t.Errorf("prefix %q: %v, want an error that names it", prefix, err)
		}
	}
	dbs, err := migrations.Open(client, migrations.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	for want, db := range map[string]*mongo.Database{
		"meet5_log": dbs.Log, "meet5_user": dbs.User, "meet5_projections": dbs.Projections, "meet5_fraud": dbs.Fraud, "meet5_activity": dbs.Activity,
	} {
		if db.Name() != want {
			t.Errorf("database %s, want %s", db.Name(), want)
		}
	}
}

func TestStepsOutOfOrderAreRefused(t *testing.T) {
	nothing := func(context.Context, migrations.Databases) error { return nil }
	for name, steps := range map[string][]migrations.Step{
		"step 2 (b) comes after step 2 (a)": {{2, "a", nothing}, {2, "b", nothing}},
		"step 1 (b) comes after step 2 (a)": {{2, "a", nothing}, {1, "b", nothing}},
		"step 0 (a)":                        {{0, "a", nothing}},
		"step 1 ()":                         {{1, "", nothing}},
		"step 1 (a)":                        {{1, "a", nil}},
	} {
		if _, err := migrations.New(migrations.Databases{}, migrations.Options{Steps: steps}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want an error with %q", err, name)
		}
	}
	if _, err := migrations.New(migrations.Databases{}, migrations.Options{}); err != nil {
		t.Errorf("the shipped steps: %v", err)
	}
}
