package main

// evalCmd measures quality.
type evalCmd struct {
	Cache evalCacheCmd `cmd:"" help:"Measure caches at equal bytes: recall of facts in long prompts, and perplexity (needs make fetch-eval)."`
	Blend evalBlendCmd `cmd:"" help:"Measure what answers from passages that were read before lose and gain (needs make fetch-eval)."`
	Set   evalSetCmd   `cmd:"" default:"withargs" help:"Measure retrieval and answers on a set of questions of your own."`
}
