package main

import (
	"sync/atomic"
	"syscall"
	"time"
)

// costs says what a request costs.
type costs struct {
	modify time.Duration
	read   time.Duration
	mibps  float64
}

// counters counts requests by kind.
type counters struct {
	Create  int64 `json:"create"`
	Mkdir   int64 `json:"mkdir"`
	Symlink int64 `json:"symlink"`
	Link    int64 `json:"link"`
	Unlink  int64 `json:"unlink"`
	Rename  int64 `json:"rename"`
	Setattr int64 `json:"setattr"`
	Commit  int64 `json:"commit"`
	Lookup  int64 `json:"lookup"`
	Open    int64 `json:"open"`
	Readdir int64 `json:"readdir"`
	Bytes   int64 `json:"bytes"`
}

// meter charges requests and counts them.
type meter struct {
	costs    costs
	counters counters
}

// modify charges a request that changes something.
func (m *meter) modify(counter *int64) {
	atomic.AddInt64(counter, 1)
	pass(m.costs.modify)
}

// read charges a request that only looks.
func (m *meter) read(counter *int64) {
	atomic.AddInt64(counter, 1)
	pass(m.costs.read)
}

// write charges what a client sends when a file is closed: the data, then COMMIT.
func (m *meter) write(bytes int64) {
	atomic.AddInt64(&m.counters.Commit, 1)
	atomic.AddInt64(&m.counters.Bytes, bytes)
	sending := float64(bytes) / (m.costs.mibps * (1 << 20)) * float64(time.Second)
	pass(2*m.costs.modify + time.Duration(sending))
}

// take gives the counters and resets them.
func (m *meter) take() counters {
	c := &m.counters
	return counters{
		Create:  atomic.SwapInt64(&c.Create, 0),
		Mkdir:   atomic.SwapInt64(&c.Mkdir, 0),
		Symlink: atomic.SwapInt64(&c.Symlink, 0),
		Link:    atomic.SwapInt64(&c.Link, 0),
		Unlink:  atomic.SwapInt64(&c.Unlink, 0),
		Rename:  atomic.SwapInt64(&c.Rename, 0),
		Setattr: atomic.SwapInt64(&c.Setattr, 0),
		Commit:  atomic.SwapInt64(&c.Commit, 0),
		Lookup:  atomic.SwapInt64(&c.Lookup, 0),
		Open:    atomic.SwapInt64(&c.Open, 0),
		Readdir: atomic.SwapInt64(&c.Readdir, 0),
		Bytes:   atomic.SwapInt64(&c.Bytes, 0),
	}
}

// pass lets time go by. Go's own timers are rounded up to a whole millisecond while the program idles, which is more
// than a round trip.
func pass(duration time.Duration) {
	left := syscall.NsecToTimespec(int64(duration))
	for syscall.Nanosleep(&left, &left) == syscall.EINTR {
	}
}
