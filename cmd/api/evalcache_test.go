package main

import (
	"errors"
	"testing"

	"lessrag/cmd/api/eval"
)

func TestCachesToCompare(t *testing.T) {
	c := evalCacheCmd{Caches: []string{"full", "vote"}, Each: 1, Lengths: []int{2000}}
	all := evalCacheCmd{Caches: []string{"all"}, Each: 1, Lengths: []int{2000}}
	if entries, err := all.entries(); err != nil || len(entries) != len(eval.AllCaches) {
		t.Errorf("all caches: %d, %v", len(entries), err)
	}
	var usage usageError
	if _, err := c.entries(); !errors.As(err, &usage) {
		t.Errorf("a cache without its budget: %v, want a usage error", err)
	}
}
