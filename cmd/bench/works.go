package bench

// Works are all there is to measure, in the order in which they run.
func Works() []Work {
	return []Work{
		appendEmbedded,
		readEmbedded,
		growthEmbedded,
		appendMongo,
		appendSingle,
		appendWriters,
		readMongo,
		viewsNew,
		viewsMixed,
		growthMongo,
		busPublish,
		busConsume,
		freshness,
		flags,
		ordinary,
	}
}
