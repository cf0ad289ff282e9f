// Command slowfs mounts a folder as if it lay on a network file system.
//
//	slowfs -rtt 2.7ms -rtt-read 0.6ms -mibps 300 BACKING MOUNTPOINT
//
// Each request that an NFSv4 client must wait for costs one round trip. SIGUSR1 prints the number of requests as one
// line of JSON and begins anew; SIGINT and SIGTERM print them too and unmount.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// attributesKept is the shortest time for which NFS clients trust what they know of a file (acregmin).
const attributesKept = 3 * time.Second

// largestWrite is the wsize that NFS clients commonly negotiate.
const largestWrite = 1 << 20

func main() {
	var costs costs
	flag.DurationVar(&costs.modify, "rtt", 2700*time.Microsecond, "round trip of a request that changes something")
	flag.DurationVar(&costs.read, "rtt-read", 600*time.Microsecond, "round trip of a lookup or an open")
	flag.Float64Var(&costs.mibps, "mibps", 300, "throughput of writes in MiB/s")
	flag.Parse()
	if err := run(costs, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(costs costs, arguments []string) error {
	if len(arguments) != 2 {
		return fmt.Errorf("expected BACKING and MOUNTPOINT, got %q", arguments)
	}
	if costs.mibps <= 0 {
		return fmt.Errorf("-mibps must be above 0, got %v", costs.mibps)
	}
	backing, mountpoint := arguments[0], arguments[1]
	meter := &meter{costs: costs}
	root, err := newRoot(backing, meter)
	if err != nil {
		return fmt.Errorf("backing folder %s: %w", backing, err)
	}
	server, err := fs.Mount(mountpoint, root, options())
	if err != nil {
		return fmt.Errorf("mount %s: %w", mountpoint, err)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGINT, syscall.SIGTERM)
	printed := make(chan error, 1)
	go func() { printed <- answer(signals, meter, mountpoint) }()
	server.Wait()
	// The last line is on its way if a signal ended the mount; umount(8) leaves none behind.
	select {
	case err = <-printed:
	case <-time.After(100 * time.Millisecond):
	}
	return err
}

// answer prints the counters at each signal, until one ends the mount.
func answer(signals <-chan os.Signal, meter *meter, mountpoint string) error {
	for got := range signals {
		if err := json.NewEncoder(os.Stdout).Encode(meter.take()); err != nil {
			return err
		}
		if got != syscall.SIGUSR1 {
			// Detached, so that a container that still uses it does not keep the mount.
			return syscall.Unmount(mountpoint, syscall.MNT_DETACH)
		}
	}
	return nil
}

func options() *fs.Options {
	kept, notKept := attributesKept, time.Duration(0)
	return &fs.Options{
		AttrTimeout:     &kept,
		EntryTimeout:    &kept,
		NegativeTimeout: &notKept,
		MountOptions: fuse.MountOptions{
			AllowOther:        true,
			DirectMountStrict: true,
			FsName:            "slowfs",
			Name:              "slowfs",
			MaxWrite:          largestWrite,
			Options:           []string{"default_permissions"},
		},
	}
}
