package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const permissions = 0o7777

// load reads a folder.
func load(path string) (*tree, error) {
	var stat syscall.Stat_t
	if err := syscall.Lstat(path, &stat); err != nil {
		return nil, err
	}
	found := &tree{meta: metaOf(&stat)}
	var err error
	switch found.kind() {
	case syscall.S_IFREG:
		found.data, err = os.ReadFile(path)
	case syscall.S_IFLNK:
		found.target, err = os.Readlink(path)
	case syscall.S_IFDIR:
		err = found.loadEntries(path)
	default:
		err = fmt.Errorf("%s is neither a file, a folder nor a link", path)
	}
	return found, err
}

func metaOf(stat *syscall.Stat_t) meta {
	return meta{mode: stat.Mode, uid: stat.Uid, gid: stat.Gid, modified: time.Unix(stat.Mtim.Unix())}
}

func (t *tree) loadEntries(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	t.entries = map[string]*tree{}
	for _, entry := range entries {
		if t.entries[entry.Name()], err = load(filepath.Join(path, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// save makes the folder hold nothing but the tree.
func save(rest *tree, folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(folder, entry.Name())); err != nil {
			return err
		}
	}
	return rest.finish(folder)
}

func (t *tree) write(path string) error {
	var err error
	switch t.kind() {
	case syscall.S_IFREG:
		err = os.WriteFile(path, t.data, 0o600)
	case syscall.S_IFLNK:
		err = os.Symlink(t.target, path)
	default:
		err = os.Mkdir(path, 0o700)
	}
	if err != nil {
		return err
	}
	return t.finish(path)
}

// finish writes what lies in a folder, and what the inode says about itself, which writing would change.
func (t *tree) finish(path string) error {
	for name, entry := range t.entries {
		if err := entry.write(filepath.Join(path, name)); err != nil {
			return err
		}
	}
	if err := os.Lchown(path, int(t.uid), int(t.gid)); err != nil {
		return err
	}
	if t.kind() == syscall.S_IFLNK {
		return nil
	}
	if err := syscall.Chmod(path, t.mode&permissions); err != nil {
		return err
	}
	return os.Chtimes(path, t.modified, t.modified)
}
