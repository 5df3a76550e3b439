//go:build linux && (amd64 || arm64) && !nocuda

package device

import (
	"fmt"
	"reflect"
	"testing"
)

// Every card has a context of its own, and is called in it; one that is lost takes no other along.
func TestSeveralCards(t *testing.T) {
	s := newStandin(t)
	s.machine(12040, 9, 3)
	cards := make([]*driver, 3)
	for i := range cards {
		var err error
		if cards[i], err = open(s.path, i); err != nil {
			t.Fatal(err)
		}
		info, err := cards[i].Info()
		if want := fmt.Sprintf("card %d (Stand-in)", i); err != nil || info.Index != i || info.Label() != want {
			t.Errorf("%+v is %s, %v; want %s", info, info.Label(), err, want)
		}
	}
	n, err := cards[0].count()
	if n != 3 || err != nil {
		t.Errorf("%d cards, %v", n, err)
	}
	for _, card := range []int{3, -1} {
		_, err = open(s.path, card)
		refuses(t, "another one", err, ErrUnavailable, fmt.Sprintf("there is no card %d: the NVIDIA driver sees 3, from 0", card))
	}
	s.calls()
	s.machine(12040, 9, 3)
	use := func(i int) error {
		p, err := cards[i].Alloc(int64(i + 1))
		if err != nil {
			return err
		}
		return cards[i].Free(p)
	}
	for _, i := range []int{2, 0, 1} {
		must(t, use(i))
	}
	if got, want := s.calls(), []string{"cuMemAlloc 3 of card 2", "cuMemFree of card 2", "cuMemAlloc 1", "cuMemFree", "cuMemAlloc 2 of card 1", "cuMemFree of card 1"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	s.fail("cuMemAlloc", 0, 700)
	s.machine(12040, 9, 3)
	refuses(t, "a fault", use(1), ErrLost, "ILLEGAL_ADDRESS")
	s.reset()
	s.machine(12040, 9, 3)
	must(t, use(0))
	must(t, use(2))
	refuses(t, "afterwards", use(1), ErrLost, "lost before")
	s.calls()
	s.machine(12040, 9, 3)
	must(t, cards[1].Reopen())
	if got, want := s.calls(), []string{"cuDevicePrimaryCtxRelease 8", "cuDevicePrimaryCtxReset 8", "cuDevicePrimaryCtxRetain 8"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	s.machine(12040, 9, 3)
	must(t, use(1))
	for _, d := range cards {
		must(t, d.Close())
	}
}
