package main

import (
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// meta is what an inode says about itself.
type meta struct {
	mode     uint32 // kind and permissions
	uid, gid uint32
	modified time.Time
}

func (m meta) kind() uint32   { return m.mode & syscall.S_IFMT }
func (m meta) isFolder() bool { return m.kind() == syscall.S_IFDIR }
func (m meta) isFile() bool   { return m.kind() == syscall.S_IFREG }

// state is everything that an inode holds.
type state struct {
	meta
	data    []byte            // of a file
	target  string            // of a link; it never changes
	entries map[string]*inode // of a folder
}

func (s state) clone() state {
	s.data, s.entries = slices.Clone(s.data), maps.Clone(s.entries)
	return s
}

// inode is a file, a folder or a link.
type inode struct {
	number uint64
	now    state  // what programs see
	synced state  // what has certainly reached the disk
	known  uint64 // how often the kernel was told of it
}

// disk is a file system with two states: what programs see, and what has certainly reached the disk. A sync of a file
// makes its data and what it says about itself certain, but not its name; names belong to their folder. A new inode is
// written together with the name that leads to it: with the mode of its creation, and empty.
type disk struct {
	mutex   sync.Mutex
	root    *inode
	inodes  map[uint64]*inode // those that the kernel knows
	last    uint64            // number of the newest inode
	changes int
	limit   int // number of changes after which the power fails; below 0: none
	stopped bool
	tell    func() // called when the limit is reached
}

// newDisk gives a disk on which everything that was found is certain.
func newDisk(found *tree, limit int, tell func()) *disk {
	d := &disk{inodes: map[uint64]*inode{}, limit: limit, tell: tell}
	d.root = d.adopt(found)
	d.inodes[d.root.number] = d.root
	return d
}

func (d *disk) adopt(found *tree) *inode {
	node := d.inode(state{meta: found.meta, data: found.data, target: found.target})
	for _, name := range slices.Sorted(maps.Keys(found.entries)) {
		node.now.entries[name] = d.adopt(found.entries[name])
	}
	node.synced = node.now.clone()
	return node
}

// inode makes a new one, as it is written together with its name.
func (d *disk) inode(begun state) *inode {
	d.last++
	if begun.isFolder() {
		begun.entries = map[string]*inode{}
	}
	return &inode{number: d.last, now: begun, synced: begun.clone()}
}

// change counts a change or a sync, and refuses it once there is no power.
func (d *disk) change() error {
	if !d.stopped && d.changes == d.limit {
		d.stopped = true
		d.tell()
	}
	if d.stopped {
		return syscall.EIO
	}
	d.changes++
	return nil
}

// stop ends the power, and says how many changes there were.
func (d *disk) stop() int {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.stopped = true
	return d.changes
}

func (d *disk) find(folder *inode, name string) (*inode, error) {
	if !folder.now.isFolder() {
		return nil, syscall.ENOTDIR
	}
	if found := folder.now.entries[name]; found != nil {
		return found, nil
	}
	return nil, syscall.ENOENT
}

func (d *disk) create(folder *inode, name string, begun state) (*inode, error) {
	if err := d.change(); err != nil {
		return nil, err
	}
	if _, err := d.find(folder, name); err != syscall.ENOENT {
		return nil, otherwise(err, syscall.EEXIST)
	}
	begun.modified = time.Now()
	node := d.inode(begun)
	folder.put(name, node)
	return node, nil
}

// put gives the name to an inode, or to none.
func (n *inode) put(name string, node *inode) {
	if node == nil {
		delete(n.now.entries, name)
	} else {
		n.now.entries[name] = node
	}
	n.now.modified = time.Now()
}

func (d *disk) remove(folder *inode, name string, isFolder bool) error {
	if err := d.change(); err != nil {
		return err
	}
	node, err := d.find(folder, name)
	switch {
	case err != nil:
		return err
	case isFolder && !node.now.isFolder():
		return syscall.ENOTDIR
	case !isFolder && node.now.isFolder():
		return syscall.EISDIR
	case len(node.now.entries) > 0:
		return syscall.ENOTEMPTY
	}
	folder.put(name, nil)
	return nil
}

// place is a name in a folder.
type place struct {
	folder *inode
	name   string
}

func (d *disk) rename(from, to place, flags uint32) error {
	if err := d.change(); err != nil {
		return err
	}
	moved, err := d.find(from.folder, from.name)
	if err != nil {
		return err
	}
	there, err := d.find(to.folder, to.name)
	if err != nil && err != syscall.ENOENT {
		return err
	}
	if there == moved {
		return nil
	}
	if flags == unix.RENAME_EXCHANGE {
		if there == nil {
			return syscall.ENOENT
		}
		from.folder.put(from.name, there)
		to.folder.put(to.name, moved)
		return nil
	}
	if err := mayReplace(moved, there, flags); err != nil {
		return err
	}
	from.folder.put(from.name, nil)
	to.folder.put(to.name, moved)
	return nil
}

func mayReplace(moved, there *inode, flags uint32) error {
	switch {
	case flags&^unix.RENAME_NOREPLACE != 0:
		return syscall.EINVAL
	case there == nil:
		return nil
	case flags == unix.RENAME_NOREPLACE:
		return syscall.EEXIST
	case there.now.isFolder() && !moved.now.isFolder():
		return syscall.EISDIR
	case !there.now.isFolder() && moved.now.isFolder():
		return syscall.ENOTDIR
	case len(there.now.entries) > 0:
		return syscall.ENOTEMPTY
	}
	return nil
}

func (d *disk) write(file *inode, offset uint64, data []byte) error {
	if err := d.change(); err != nil {
		return err
	}
	if end := offset + uint64(len(data)); end > uint64(len(file.now.data)) {
		file.resize(end)
	}
	copy(file.now.data[offset:], data)
	file.now.modified = time.Now()
	return nil
}

func (n *inode) resize(size uint64) {
	held := uint64(len(n.now.data))
	if size <= held {
		n.now.data = n.now.data[:size:size]
		return
	}
	n.now.data = append(n.now.data, make([]byte, size-held)...)
}

// set changes what an inode says about itself, or its size.
func (d *disk) set(node *inode, meta meta, size *uint64) error {
	if err := d.change(); err != nil {
		return err
	}
	node.now.meta = meta
	if size != nil {
		node.resize(*size)
	}
	return nil
}

func (d *disk) sync(node *inode) error {
	if err := d.change(); err != nil {
		return err
	}
	node.synced = node.now.clone()
	return nil
}

// syncAll is sync(2).
func (d *disk) syncAll() {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.change() == nil {
		d.root.syncBelow()
	}
}

func (n *inode) syncBelow() {
	n.synced = n.now.clone()
	for _, entry := range n.now.entries {
		entry.syncBelow()
	}
}

func otherwise(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
