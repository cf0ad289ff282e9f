package main

import (
	"context"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// node is a file or folder of the backing file system, with its requests charged.
type node struct {
	fs.LoopbackNode
	meter *meter
}

// file is an open file that remembers whether it holds data the server has not seen.
type file struct {
	*fs.LoopbackFile
	meter *meter
	dirty atomic.Int64
}

var (
	_ fs.NodeCreater    = (*node)(nil)
	_ fs.NodeOpener     = (*node)(nil)
	_ fs.NodeMkdirer    = (*node)(nil)
	_ fs.NodeSymlinker  = (*node)(nil)
	_ fs.NodeLinker     = (*node)(nil)
	_ fs.NodeUnlinker   = (*node)(nil)
	_ fs.NodeRmdirer    = (*node)(nil)
	_ fs.NodeRenamer    = (*node)(nil)
	_ fs.NodeSetattrer  = (*node)(nil)
	_ fs.NodeLookuper   = (*node)(nil)
	_ fs.NodeOpendirHandler = (*node)(nil)
	_ fs.FileWriter     = (*file)(nil)
	_ fs.FileFlusher    = (*file)(nil)
	_ fs.FileFsyncer    = (*file)(nil)
)
