module github.com/meet5/backend/activity

go 1.26.0

replace (
	github.com/meet5/backend/events => ../events
	github.com/meet5/backend/service => ../service
)
