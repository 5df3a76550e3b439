package cache

// streaming is StreamingLLM (arXiv 2309.17453): the tokens of sinks, numbered
// anew without gaps. Rotary positions are relative, so it is enough to turn the
// sinks' keys by the number of tokens that were evicted, from an exact copy each
// time: the recent tokens stay where they were, and no distance ever exceeds the
// budget. Such a sequence may run beyond the model's context.
type streaming struct{ sinks }
