package main

import (
	"errors"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// trusted is how long the kernel may believe what it was told: nothing changes behind its back.
const trusted = time.Hour

const blockSize = 4096

// fileSystem answers the kernel from a disk. Writes reach it at once, since the kernel's write-back cache is off.
type fileSystem struct {
	fuse.RawFileSystem
	disk     *disk
	listings map[uint64][]fuse.DirEntry // of open folders
	last     uint64                     // the newest of their handles
}

func newFileSystem(disk *disk) *fileSystem {
	return &fileSystem{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		disk:          disk,
		listings:      map[uint64][]fuse.DirEntry{},
	}
}

func (f *fileSystem) String() string { return "powercut" }

// with lets work happen on an inode, alone.
func (f *fileSystem) with(number uint64, work func(*inode) error) fuse.Status {
	f.disk.mutex.Lock()
	defer f.disk.mutex.Unlock()
	node := f.disk.inodes[number]
	if node == nil {
		return fuse.Status(syscall.ESTALE)
	}
	err := work(node)
	var code syscall.Errno
	if errors.As(err, &code) {
		return fuse.Status(code)
	}
	return fuse.OK
}

// tell tells the kernel of an inode, which it then knows until it forgets it.
func (f *fileSystem) tell(node *inode, out *fuse.EntryOut) {
	node.known++
	f.disk.inodes[node.number] = node
	out.NodeId = node.number
	out.SetEntryTimeout(trusted)
	out.SetAttrTimeout(trusted)
	describe(node, &out.Attr)
}

func describe(node *inode, out *fuse.Attr) {
	size := uint64(len(node.now.data) + len(node.now.target))
	*out = fuse.Attr{
		Ino:     node.number,
		Size:    size,
		Blocks:  (size + 511) / 512,
		Mode:    node.now.mode,
		Nlink:   1,
		Owner:   fuse.Owner{Uid: node.now.uid, Gid: node.now.gid},
		Blksize: blockSize,
	}
	modified := node.now.modified
	out.SetTimes(&modified, &modified, &modified)
}

func (f *fileSystem) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	return f.with(in.NodeId, func(folder *inode) error {
		node, err := f.disk.find(folder, name)
		if err == nil {
			f.tell(node, out)
		}
		return err
	})
}

func (f *fileSystem) Forget(number, times uint64) {
	f.with(number, func(node *inode) error {
		if node.known -= times; node.known == 0 && node != f.disk.root {
			delete(f.disk.inodes, number)
		}
		return nil
	})
}

func (f *fileSystem) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	return f.with(in.NodeId, func(node *inode) error {
		out.SetTimeout(trusted)
		describe(node, &out.Attr)
		return nil
	})
}

func (f *fileSystem) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	return f.with(in.NodeId, func(node *inode) error {
		changed := node.now.meta
		if mode, ok := in.GetMode(); ok {
			changed.mode = changed.kind() | mode&permissions
		}
		if uid, ok := in.GetUID(); ok {
			changed.uid = uid
		}
		if gid, ok := in.GetGID(); ok {
			changed.gid = gid
		}
		if modified, ok := in.GetMTime(); ok {
			changed.modified = modified
		}
		var resized *uint64
		if size, ok := in.GetSize(); ok {
			resized = &size
			changed.modified = time.Now()
		}
		err := f.disk.set(node, changed, resized)
		out.SetTimeout(trusted)
		describe(node, &out.Attr)
		return err
	})
}

// create makes an inode for whoever asks.
func (f *fileSystem) create(in *fuse.InHeader, name string, begun state, out *fuse.EntryOut) fuse.Status {
	return f.with(in.NodeId, func(folder *inode) error {
		begun.uid, begun.gid = in.Uid, in.Gid
		node, err := f.disk.create(folder, name, begun)
		if err == nil {
			f.tell(node, out)
		}
		return err
	})
}

func (f *fileSystem) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	begun := state{meta: meta{mode: syscall.S_IFDIR | in.Mode&permissions}}
	return f.create(&in.InHeader, name, begun, out)
}

func (f *fileSystem) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return f.create(in, name, state{meta: meta{mode: syscall.S_IFLNK | 0o777}, target: target}, out)
}

func (f *fileSystem) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	begun := state{meta: meta{mode: syscall.S_IFREG | in.Mode&permissions}}
	return f.create(&in.InHeader, name, begun, &out.EntryOut)
}

func (f *fileSystem) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return f.with(in.NodeId, func(folder *inode) error { return f.disk.remove(folder, name, false) })
}

func (f *fileSystem) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return f.with(in.NodeId, func(folder *inode) error { return f.disk.remove(folder, name, true) })
}

func (f *fileSystem) Rename(_ <-chan struct{}, in *fuse.RenameIn, name, newName string) fuse.Status {
	return f.with(in.NodeId, func(folder *inode) error {
		target := f.disk.inodes[in.Newdir]
		if target == nil {
			return syscall.ESTALE
		}
		return f.disk.rename(place{folder, name}, place{target, newName}, in.Flags)
	})
}

func (f *fileSystem) Readlink(_ <-chan struct{}, in *fuse.InHeader) (target []byte, status fuse.Status) {
	status = f.with(in.NodeId, func(node *inode) error {
		target = []byte(node.now.target)
		return nil
	})
	return target, status
}

// Access is never asked: with default_permissions the kernel decides by itself.
func (f *fileSystem) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.OK }

func (f *fileSystem) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

func (f *fileSystem) Read(_ <-chan struct{}, in *fuse.ReadIn, buffer []byte) (result fuse.ReadResult, status fuse.Status) {
	status = f.with(in.NodeId, func(file *inode) error {
		data := file.now.data
		from := min(in.Offset, uint64(len(data)))
		length := copy(buffer[:in.Size], data[from:])
		result = fuse.ReadResultData(buffer[:length])
		return nil
	})
	return result, status
}

func (f *fileSystem) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	status := f.with(in.NodeId, func(file *inode) error { return f.disk.write(file, in.Offset, data) })
	return uint32(len(data)), status
}

func (f *fileSystem) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

func (f *fileSystem) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return f.with(in.NodeId, f.disk.sync)
}

func (f *fileSystem) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return f.with(in.NodeId, f.disk.sync)
}

func (f *fileSystem) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return f.with(in.NodeId, func(folder *inode) error {
		f.last++
		out.Fh = f.last
		f.listings[f.last] = list(folder)
		return nil
	})
}

func list(folder *inode) []fuse.DirEntry {
	var entries []fuse.DirEntry
	for _, name := range slices.Sorted(maps.Keys(folder.now.entries)) {
		node := folder.now.entries[name]
		entries = append(entries, fuse.DirEntry{Name: name, Mode: node.now.mode, Ino: node.number})
	}
	return entries
}

// ReadDir lists a folder as it was when it was opened or begun anew: who removes entries while listing sees each once.
func (f *fileSystem) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.with(in.NodeId, func(folder *inode) error {
		if in.Offset == 0 {
			f.listings[in.Fh] = list(folder)
		}
		listing := f.listings[in.Fh]
		for _, entry := range listing[min(in.Offset, uint64(len(listing))):] {
			if !out.AddDirEntry(entry) {
				break
			}
		}
		return nil
	})
}

func (f *fileSystem) ReleaseDir(in *fuse.ReleaseIn) {
	f.disk.mutex.Lock()
	defer f.disk.mutex.Unlock()
	delete(f.listings, in.Fh)
}

func (f *fileSystem) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	const blocks, inodes = 64 << 30 / blockSize, 1 << 20
	*out = fuse.StatfsOut{
		Blocks: blocks, Bfree: blocks, Bavail: blocks, Bsize: blockSize, Frsize: blockSize,
		Files: inodes, Ffree: inodes, NameLen: 255,
	}
	return fuse.OK
}
