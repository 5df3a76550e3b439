package decode

import "testing"

func TestChoosePlace(t *testing.T) {
	idle := Place{Sequences: 4, Free: 100}
	busy := func(promised int64) Place { return Place{Sequences: 2, Free: 100 - promised, Promised: promised} }
	knows := func(p Place, n int) Place { p.Known = n; return p }
	lost, full := idle, idle
	lost.Lost, full.Sequences = true, 0
	for _, test := range []struct {
		name   string
		places []Place
		bytes  int64
		want   int
	}{
		{"one device with exactly enough bytes", []Place{idle}, 100, 0},
		{"a byte too few", []Place{idle}, 101, -1},
		{"no more sequences than allowed", []Place{full}, 1, -1},
		{"of equals the first", []Place{idle, idle}, 10, 0},
		{"the least is promised", []Place{busy(30), busy(20), busy(40)}, 10, 1},
		{"one that is lost gets nothing", []Place{lost, busy(20)}, 10, 1},
		{"all are lost", []Place{lost, lost}, 10, -1},
		{"only one has the bytes", []Place{idle, {Sequences: 1, Free: 200, Promised: 300}}, 150, 1},
		{"half of the prompt is known", []Place{idle, knows(busy(80), 50)}, 10, 1},
		{"less than half is known", []Place{idle, knows(busy(80), 49)}, 10, 0},
		{"more is known", []Place{knows(idle, 60), knows(busy(80), 70)}, 10, 1},
		{"a little decides where load is equal", []Place{busy(20), knows(busy(20), 10)}, 10, 1},
		{"known, but there is no room: others do not wait for it", []Place{knows(full, 90), busy(80)}, 10, 1},
	} {
		if got := Choose(test.places, test.bytes, 100); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}
