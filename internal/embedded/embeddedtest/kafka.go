package embeddedtest

// Brokers is a Kafka cluster for tests.
type Brokers struct{}
