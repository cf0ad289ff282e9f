package main

import (
	"bytes"
	"maps"
	"slices"
)

// loss decides what of a disk survives a power cut. With a seed other than 0, each name, each file's data and what each
// inode says about itself may be the old or the new one if it was not synced; data may also be there in part. That is
// harsher than real file systems, which keep at least some things together.
type loss struct {
	seed uint64
	keep bool
}

// tree is what lies in a folder at rest.
type tree struct {
	meta
	data    []byte
	target  string
	entries map[string]*tree
}

// survivors gives what is left of the disk. Folders that lie in two places, since only one end of a move is certain,
// are there twice.
func (d *disk) survivors(loss loss) *tree {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return loss.tree(d.root, nil)
}

func (l loss) tree(node *inode, above []*inode) *tree {
	left := l.of(node)
	rest := &tree{meta: left.meta, data: left.data, target: left.target}
	if !left.isFolder() {
		return rest
	}
	rest.entries = map[string]*tree{}
	above = append(slices.Clip(above), node)
	for name, entry := range left.entries {
		// Two moves of which halves survived could lead in a circle.
		if !slices.Contains(above, entry) {
			rest.entries[name] = l.tree(entry, above)
		}
	}
	return rest
}

// of gives what is left of an inode.
func (l loss) of(node *inode) state {
	switch {
	case l.keep:
		return node.now
	case l.seed == 0:
		return node.synced
	}
	left := node.synced
	if node.now.meta != node.synced.meta && l.draw(node.number, 1)%2 == 0 {
		left.meta = node.now.meta
	}
	left.data = l.data(node)
	left.entries = l.entries(node)
	return left
}

func (l loss) data(node *inode) []byte {
	now, synced := node.now.data, node.synced.data
	if bytes.Equal(now, synced) {
		return synced
	}
	switch l.draw(node.number, 2) % 5 {
	case 0:
		return now
	case 1:
		return nil
	case 2:
		return now[:len(now)/2]
	case 3:
		return make([]byte, len(now))
	}
	return synced
}

func (l loss) entries(folder *inode) map[string]*inode {
	left := maps.Clone(folder.synced.entries)
	names := maps.Clone(folder.synced.entries)
	maps.Copy(names, folder.now.entries)
	for name := range names {
		was, is := folder.synced.entries[name], folder.now.entries[name]
		// By numbers, not by names, which may be drawn by lot.
		if was == is || l.draw(folder.number, was.id(), is.id())%2 == 0 {
			continue
		}
		if is == nil {
			delete(left, name)
		} else {
			left[name] = is
		}
	}
	return left
}

func (n *inode) id() uint64 {
	if n == nil {
		return 0
	}
	return n.number
}

// draw gives a number that follows from the seed and what it is for.
func (l loss) draw(what ...uint64) uint64 {
	drawn := l.seed
	for _, number := range what {
		// The step of splitmix64.
		drawn += number + 0x9e3779b97f4a7c15
		drawn = (drawn ^ drawn>>30) * 0xbf58476d1ce4e5b9
		drawn = (drawn ^ drawn>>27) * 0x94d049bb133111eb
		drawn ^= drawn >> 31
	}
	return drawn
}
