package main

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// node is a file or folder of the backing folder; its requests are charged. What it does not have is free: NFS
// clients answer it from what they know.
type node struct {
	fs.LoopbackNode
	meter *meter
}

func newRoot(backing string, meter *meter) (*node, error) {
	backing, err := filepath.EvalSymlinks(backing)
	if err != nil {
		return nil, err
	}
	var stat syscall.Stat_t
	if err := syscall.Stat(backing, &stat); err != nil {
		return nil, err
	}
	data := &fs.LoopbackRoot{Path: backing, Dev: uint64(stat.Dev)}
	data.NewNode = func(data *fs.LoopbackRoot, _ *fs.Inode, _ string, _ *syscall.Stat_t) fs.InodeEmbedder {
		return &node{LoopbackNode: fs.LoopbackNode{RootData: data}, meter: meter}
	}
	return &node{LoopbackNode: fs.LoopbackNode{RootData: data}, meter: meter}, nil
}

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	n.meter.modify(&n.meter.counters.Create)
	inode, handle, flags, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	return inode, n.file(handle), flags, errno
}

func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	n.meter.read(&n.meter.counters.Open)
	handle, flags, errno := n.LoopbackNode.Open(ctx, flags)
	return n.file(handle), flags, errno
}

func (n *node) OpendirHandle(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	n.meter.read(&n.meter.counters.Readdir)
	return n.LoopbackNode.OpendirHandle(ctx, flags)
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.meter.read(&n.meter.counters.Lookup)
	return n.LoopbackNode.Lookup(ctx, name, out)
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.meter.modify(&n.meter.counters.Mkdir)
	return n.LoopbackNode.Mkdir(ctx, name, mode, out)
}

func (n *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.meter.modify(&n.meter.counters.Symlink)
	return n.LoopbackNode.Symlink(ctx, target, name, out)
}

func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.meter.modify(&n.meter.counters.Link)
	return n.LoopbackNode.Link(ctx, target, name, out)
}

func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	n.meter.modify(&n.meter.counters.Unlink)
	return n.LoopbackNode.Unlink(ctx, name)
}

func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	n.meter.modify(&n.meter.counters.Unlink)
	return n.LoopbackNode.Rmdir(ctx, name)
}

func (n *node) Rename(ctx context.Context, name string, parent fs.InodeEmbedder, to string, flags uint32) syscall.Errno {
	n.meter.modify(&n.meter.counters.Rename)
	return n.LoopbackNode.Rename(ctx, name, parent, to, flags)
}

func (n *node) Setattr(ctx context.Context, handle fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	n.meter.modify(&n.meter.counters.Setattr)
	return n.LoopbackNode.Setattr(ctx, handle, in, out)
}

// Statx asks about a link itself. The library follows it, so that a link without a target here would not be there.
func (n *node) Statx(ctx context.Context, handle fs.FileHandle, flags, mask uint32, out *fuse.StatxOut) syscall.Errno {
	return n.LoopbackNode.Statx(ctx, handle, flags|unix.AT_SYMLINK_NOFOLLOW, mask, out)
}

// file is an open file that remembers how much of it the server has not seen.
type file struct {
	*fs.LoopbackFile
	meter *meter
	dirty atomic.Int64
}

func (n *node) file(handle fs.FileHandle) fs.FileHandle {
	if opened, ok := handle.(*fs.LoopbackFile); ok {
		return &file{LoopbackFile: opened, meter: n.meter}
	}
	return handle
}

// PassthroughFd keeps the kernel from writing to the backing file past the meter.
func (f *file) PassthroughFd() (int, bool) {
	return 0, false
}

func (f *file) Write(ctx context.Context, data []byte, offset int64) (uint32, syscall.Errno) {
	f.dirty.Add(int64(len(data)))
	return f.LoopbackFile.Write(ctx, data, offset)
}

// Flush is a close: an NFS client sends what is dirty and waits, so that the next opener sees it.
func (f *file) Flush(ctx context.Context) syscall.Errno {
	if dirty := f.dirty.Swap(0); dirty > 0 {
		f.meter.write(dirty)
	}
	return f.LoopbackFile.Flush(ctx)
}

func (f *file) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	if dirty := f.dirty.Swap(0); dirty > 0 {
		f.meter.write(dirty)
	}
	return f.LoopbackFile.Fsync(ctx, flags)
}
