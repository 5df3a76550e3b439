package ingest

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestMeterCountsTwoAtOnceOnce: stays that overlap are one.
func TestMeterCountsTwoAtOnceOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m meter
		expect := func(want time.Duration) {
			t.Helper()
			if got := m.time(); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		expect(0)
		first := m.enter()
		time.Sleep(time.Second)
		second := m.enter()
		time.Sleep(time.Second)
		expect(2 * time.Second)
		first()
		time.Sleep(time.Second)
		second()
		time.Sleep(time.Minute)
		expect(3 * time.Second)
		m.enter()()
		expect(3 * time.Second)
	})
}
