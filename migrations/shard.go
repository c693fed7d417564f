package migrations

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// spread places whole collections on the shards in turn. It does something only
// on a sharded cluster with more than one shard, which takes MongoDB 8.0 or
// later; the tests have no such cluster, so the commands are as documented but
// untried. Moving one collection takes the server five minutes at least, even an
// empty one.
func spread(ctx context.Context, db *mongo.Database, collections []string) error {
	admin := db.Client().Database("admin")
	sharded, err := isSharded(ctx, admin)
	if err != nil || !sharded {
		return err
	}
	var cluster struct {
		Shards []struct {
			ID string `bson:"_id"`
		} `bson:"shards"`
	}
	if err := admin.RunCommand(ctx, bson.D{{Key: "listShards", Value: 1}}).Decode(&cluster); err != nil {
		return fmt.Errorf("list the shards: %w", err)
	}
	if len(cluster.Shards) < 2 {
		return nil
	}
	for i, name := range collections {
		to := cluster.Shards[i%len(cluster.Shards)].ID
		at, err := shardOf(ctx, db.Collection(name))
		if err != nil {
			return fmt.Errorf("find the shard of %s: %w", name, err)
		}
		if at == to {
			continue
		}
		move := bson.D{{Key: "moveCollection", Value: db.Name() + "." + name}, {Key: "toShard", Value: to}}
		if err := admin.RunCommand(ctx, move).Err(); err != nil {
			return fmt.Errorf("move %s to shard %s: %w", name, to, err)
		}
	}
	return nil
}

// isSharded says whether the server is a router of a sharded cluster.
func isSharded(ctx context.Context, admin *mongo.Database) (bool, error) {
	var hello struct {
		Msg string `bson:"msg"`
	}
	if err := admin.RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil {
		return false, fmt.Errorf("ask the server what it is: %w", err)
	}
	return hello.Msg == "isdbgrid", nil
}

// shardOf is the shard that holds a collection which is not split.
func shardOf(ctx context.Context, coll *mongo.Collection) (string, error) {
	cur, err := coll.Aggregate(ctx, mongo.Pipeline{{{Key: "$collStats", Value: bson.D{{Key: "count", Value: bson.D{}}}}}})
	if err != nil {
		return "", err
	}
	var stats []struct {
		Shard string `bson:"shard"`
	}
	if err := cur.All(ctx, &stats); err != nil || len(stats) == 0 {
		return "", err
	}
	return stats[0].Shard, nil
}
