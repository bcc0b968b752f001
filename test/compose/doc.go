// Package compose brings docker-compose.yml up as a user would, and looks whether
// what it promises is so:
//
//	go test -tags compose -count 1 -timeout 20m ./test/compose
//
// It needs a Docker engine with the compose plugin. Images are pulled where they
// are not there; Grafana is left out. The project has a name, ports and volumes
// of its own, and is removed with them at the end.
package compose
