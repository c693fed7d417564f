module github.com/meet5/backend/cmd

go 1.26.0

replace (
	github.com/meet5/backend/events => ../events
	github.com/meet5/backend/service => ../service
	github.com/meet5/backend/user => ../user
	github.com/meet5/backend/activity => ../activity
	github.com/meet5/backend/fraud => ../fraud
	github.com/meet5/backend/projections => ../projections
	github.com/meet5/backend/gateway => ../gateway
	github.com/meet5/backend/migrations => ../migrations
)
