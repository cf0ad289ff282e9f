package main

import (
	"testing"
	"time"
)

func TestCountersBeginAnewOnceTheyAreTaken(t *testing.T) {
	m := &meter{costs: costs{mibps: 1}}
	m.modify(&m.counters.Mkdir)
	m.read(&m.counters.Lookup)
	m.write(10)
	want := counters{Mkdir: 1, Lookup: 1, Commit: 1, Bytes: 10}
	if got := m.take(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := m.take(); got != (counters{}) {
		t.Errorf("got %+v after a take, want nothing", got)
	}
}

func TestWritesCostTwoRoundTripsAndTheTimeToSend(t *testing.T) {
	m := &meter{costs: costs{modify: 5 * time.Millisecond, mibps: 100}}
	begun := time.Now()
	m.write(1 << 20)
	if took := time.Since(begun); took < 20*time.Millisecond {
		t.Errorf("1 MiB at 100 MiB/s and two round trips of 5 ms took %v", took)
	}
}
