// Command powercut lays a file system over a folder that loses what was not synced when the power fails.
//
//	powercut [-after N] [-seed S | -keep] FOLDER
//
// The file system begins with what the folder holds. Its power lasts as long as the standard input: when that ends, or
// at SIGINT or SIGTERM, nothing more reaches the disk, the mount goes away, and the folder holds what survived. With
// -after, the power fails by itself after that many changes; from then on each one is refused, until the input ends.
//
// What survives is exactly what was synced. With -seed it is also any part of the rest, as real file systems may write
// things before they are asked to. With -keep it is everything, as when only the program was killed.
//
// It says on standard output, one line each: "mounted", "stopped" when -after is reached, "synced" as the answer to a
// line of input, and at the end "changes N". A line of input stands for sync(2), since the kernel does not pass that on
// to file systems like this one.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func main() {
	var loss loss
	after := flag.Int("after", -1, "number of changes after which the power fails")
	flag.Uint64Var(&loss.seed, "seed", 0, "lets any part of what was not synced survive; 0: nothing of it")
	flag.BoolVar(&loss.keep, "keep", false, "everything survives")
	flag.Parse()
	if err := run(loss, *after, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(loss loss, after int, arguments []string) error {
	if len(arguments) != 1 {
		return fmt.Errorf("expected FOLDER, got %q", arguments)
	}
	folder := arguments[0]
	found, err := load(folder)
	if err != nil {
		return fmt.Errorf("load %s: %w", folder, err)
	}
	disk := newDisk(found, after, func() { fmt.Println("stopped") })
	server, err := fuse.NewServer(newFileSystem(disk), folder, options())
	if err != nil {
		return fmt.Errorf("mount over %s: %w", folder, err)
	}
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		return fmt.Errorf("mount over %s: %w", folder, err)
	}
	fmt.Println("mounted")
	obey(disk)
	changes := disk.stop()
	// Detached, so that a program that still uses it does not keep the mount.
	if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", folder, err)
	}
	if err := save(disk.survivors(loss), folder); err != nil {
		return fmt.Errorf("save %s: %w", folder, err)
	}
	fmt.Println("changes", changes)
	return nil
}

// obey syncs at each line of input, until the input ends or a signal comes.
func obey(disk *disk) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(os.Stdin); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	for {
		select {
		case <-signals:
			return
		case _, more := <-lines:
			if !more {
				return
			}
			disk.syncAll()
			fmt.Println("synced")
		}
	}
}

func options() *fuse.MountOptions {
	return &fuse.MountOptions{
		AllowOther:         true,
		DirectMountStrict:  true,
		DisableReadDirPlus: true,
		DisableXAttrs:      true,
		FsName:             "powercut",
		Name:               "powercut",
		MaxWrite:           1 << 20,
		Options:            []string{"default_permissions"},
	}
}
