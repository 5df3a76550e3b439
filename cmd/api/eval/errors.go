// Package eval measures quality: what is found, what is answered from it, what caches forget, and
// what reading passages ahead loses.
package eval

// InvalidError tells which flag cannot be followed, and why.
type InvalidError struct{ Flag, Reason string }

func (e *InvalidError) Error() string { return e.Flag + ": " + e.Reason }
