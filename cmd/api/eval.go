package main

// evalCmd measures quality.
type evalCmd struct {
	Set evalSetCmd `cmd:"" default:"withargs" help:"Measure retrieval and answers on a set of questions of your own."`
}
