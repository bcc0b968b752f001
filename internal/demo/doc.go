// Package demo plays a scenario of mass sends on a simulated WeChat against a
// stack that is real in every other respect, and compares what the database
// says with what the simulator knows to be true.
package demo
