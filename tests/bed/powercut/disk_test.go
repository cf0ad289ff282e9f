package main

import (
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// bench is a disk with paths instead of inodes; every operation must succeed.
type bench struct {
	*disk
	t *testing.T
}

func empty(t *testing.T) bench { return limited(t, -1) }

func limited(t *testing.T, limit int) bench {
	root := &tree{meta: meta{mode: syscall.S_IFDIR | 0o755}}
	return bench{newDisk(root, limit, func() {}), t}
}

func (b bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b bench) at(path string) *inode {
	b.t.Helper()
	node := b.root
	for _, name := range strings.FieldsFunc(path, func(c rune) bool { return c == '/' }) {
		if node = node.now.entries[name]; node == nil {
			b.t.Fatalf("%s is not there", path)
		}
	}
	return node
}

func (b bench) place(path string) place {
	b.t.Helper()
	cut := strings.LastIndex(path, "/")
	return place{b.at(path[:max(cut, 0)]), path[cut+1:]}
}

func (b bench) make(path string, mode uint32) *inode {
	b.t.Helper()
	where := b.place(path)
	node, err := b.create(where.folder, where.name, state{meta: meta{mode: mode}})
	b.must(err)
	return node
}

func (b bench) folder(path string) {
	b.t.Helper()
	b.make(path, syscall.S_IFDIR|0o755)
}

func (b bench) file(path, data string) {
	b.t.Helper()
	b.must(b.write(b.make(path, syscall.S_IFREG|0o600), 0, []byte(data)))
}

func (b bench) synced(paths ...string) {
	b.t.Helper()
	for _, path := range paths {
		b.must(b.sync(b.at(path)))
	}
}

func (b bench) moved(from, to string, flags uint32) {
	b.t.Helper()
	b.must(b.rename(b.place(from), b.place(to), flags))
}

// left says what survives: folders by their paths and "/", files by path and content.
func (b bench) left(loss loss) []string {
	var paths []string
	var walk func(string, *tree)
	walk = func(path string, found *tree) {
		for _, name := range slices.Sorted(maps.Keys(found.entries)) {
			entry := found.entries[name]
			if entry.isFolder() {
				paths = append(paths, path+name+"/")
				walk(path+name+"/", entry)
			} else {
				paths = append(paths, path+name+"="+string(entry.data)+entry.target)
			}
		}
	}
	walk("", b.survivors(loss))
	return paths
}

func (b bench) expect(want ...string) {
	b.t.Helper()
	if got := b.left(loss{}); !slices.Equal(got, want) {
		b.t.Errorf("survived: %q, want %q", got, want)
	}
}

func TestANameThatWasNotSyncedIsLostAndItsDataWithIt(t *testing.T) {
	b := empty(t)
	b.file("a", "data")
	b.synced("a")
	b.expect()
	b.synced("")
	b.expect("a=data")
}

func TestANameWithoutItsDataIsAnEmptyFileOfTheModeOfItsCreation(t *testing.T) {
	b := empty(t)
	b.file("a", "data")
	changed := b.at("a").now.meta
	changed.mode = syscall.S_IFREG | 0o755
	b.must(b.set(b.at("a"), changed, nil))
	b.synced("")
	b.expect("a=")
	if mode := b.survivors(loss{}).entries["a"].mode & permissions; mode != 0o600 {
		t.Errorf("mode %o", mode)
	}
	b.synced("a")
	b.expect("a=data")
	if mode := b.survivors(loss{}).entries["a"].mode & permissions; mode != 0o755 {
		t.Errorf("mode %o", mode)
	}
}

func TestWhatWasOverwrittenAndNotSyncedIsAsItWas(t *testing.T) {
	b := empty(t)
	b.file("a", "first")
	b.synced("a", "")
	size := uint64(0)
	b.must(b.set(b.at("a"), b.at("a").now.meta, &size))
	b.must(b.write(b.at("a"), 2, []byte("second")))
	b.expect("a=first")
	b.synced("a")
	b.expect("a=\x00\x00second")
}

func TestAMoveBetweenFoldersIsCertainAsFarAsEachWasSynced(t *testing.T) {
	for _, c := range []struct {
		synced []string
		want   []string
	}{
		{nil, []string{"from/", "from/a=data", "to/"}},
		{[]string{"to"}, []string{"from/", "from/a=data", "to/", "to/a=data"}},
		{[]string{"from"}, []string{"from/", "to/"}},
		{[]string{"from", "to"}, []string{"from/", "to/", "to/a=data"}},
	} {
		b := empty(t)
		b.folder("from")
		b.folder("to")
		b.file("from/a", "data")
		b.syncAll()
		b.moved("from/a", "to/a", unix.RENAME_NOREPLACE)
		b.synced(c.synced...)
		b.expect(c.want...)
	}
}

func TestAnExchangeLeavesEachNameToOneOfTheTwo(t *testing.T) {
	b := empty(t)
	b.file("a", "1")
	b.file("b", "2")
	b.syncAll()
	b.moved("a", "b", unix.RENAME_EXCHANGE)
	b.expect("a=1", "b=2")
	for seed := range uint64(50) {
		if left := b.left(loss{seed: seed}); len(left) != 2 {
			t.Errorf("seed %d: a name is missing: %q", seed, left)
		}
	}
	b.synced("")
	b.expect("a=2", "b=1")
}

func TestWhatNoFolderNamesIsGone(t *testing.T) {
	b := empty(t)
	b.folder("a")
	b.folder("a/b")
	b.file("a/b/c", "data")
	b.synced("a/b/c", "a/b", "a")
	b.expect()
}

func TestWhatWasRemovedAndNotSyncedIsBack(t *testing.T) {
	b := empty(t)
	b.folder("a")
	b.file("a/b", "data")
	b.syncAll()
	b.must(b.remove(b.at("a"), "b", false))
	b.must(b.remove(b.root, "a", true))
	b.expect("a/", "a/b=data")
	b.synced("")
	b.expect()
}

func TestARefusedMoveChangesNothing(t *testing.T) {
	b := empty(t)
	b.folder("a")
	b.folder("b")
	b.file("b/c", "data")
	for flags, want := range map[uint32]error{0: syscall.ENOTEMPTY, unix.RENAME_NOREPLACE: syscall.EEXIST, 4: syscall.EINVAL} {
		if err := b.rename(b.place("a"), b.place("b"), flags); err != want {
			t.Errorf("flags %d: %v, want %v", flags, err, want)
		}
	}
	if err := b.rename(b.place("a"), b.place("d"), unix.RENAME_EXCHANGE); err != syscall.ENOENT {
		t.Error(err)
	}
	if err := b.remove(b.root, "b", true); err != syscall.ENOTEMPTY {
		t.Error(err)
	}
	b.syncAll()
	b.expect("a/", "b/", "b/c=data")
}

func TestWithASeedAnyPartMaySurviveButWhatWasSyncedAlwaysDoes(t *testing.T) {
	outcomes := map[string]bool{}
	for seed := uint64(1); seed < 200; seed++ {
		b := empty(t)
		b.file("certain", "data")
		b.synced("certain", "")
		b.file("new", "data")
		left := b.left(loss{seed: seed})
		if !slices.Contains(left, "certain=data") {
			t.Fatalf("seed %d: %q", seed, left)
		}
		if again := b.left(loss{seed: seed}); !slices.Equal(left, again) {
			t.Fatalf("seed %d: %q, then %q", seed, left, again)
		}
		outcomes[strings.Join(left, " ")] = true
	}
	for _, want := range []string{"", " new=", " new=da", " new=data", " new=\x00\x00\x00\x00"} {
		if !outcomes["certain=data"+want] {
			t.Errorf("never %q in %v", want, outcomes)
		}
	}
}

func TestHalvesOfMovesNeverLeadInACircle(t *testing.T) {
	b := empty(t)
	b.folder("a")
	b.folder("a/b")
	b.syncAll()
	b.moved("a/b", "b", 0)
	b.moved("a", "b/a", 0)
	for seed := range uint64(100) {
		b.left(loss{seed: seed})
	}
	b.synced("b")
	b.expect("a/", "a/b/")
}

func TestOfAKilledProgramEverythingIsKept(t *testing.T) {
	b := empty(t)
	b.file("a", "data")
	if left := b.left(loss{keep: true}); !slices.Equal(left, []string{"a=data"}) {
		t.Errorf("%q", left)
	}
}

func TestAfterTheLastChangeNothingHappens(t *testing.T) {
	b := limited(t, 3)
	told := 0
	b.tell = func() { told++ }
	b.file("a", "data")
	b.synced("a")
	for range 2 {
		if err := b.sync(b.root); err != syscall.EIO {
			t.Errorf("%v", err)
		}
	}
	b.syncAll()
	b.expect()
	if told != 1 || b.stop() != 3 {
		t.Errorf("told %d times, %d changes", told, b.changes)
	}
}
