package main

import (
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
)

func TestAFolderIsSavedAsItWasLoaded(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(from, "a/b"), 0o755),
		os.WriteFile(filepath.Join(from, "a/file"), []byte("data"), 0o600),
		os.Chmod(filepath.Join(from, "a/file"), 0o640),
		os.Symlink("/nowhere", filepath.Join(from, "a/b/link")),
		os.Chmod(filepath.Join(from, "a"), 0o510),
		os.WriteFile(filepath.Join(to, "other"), nil, 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	found, err := load(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := save(found, to); err != nil {
		t.Fatal(err)
	}
	again, err := load(to)
	if err != nil {
		t.Fatal(err)
	}
	// A link has no time of its own here.
	link := found.entries["a"].entries["b"].entries["link"]
	link.modified = again.entries["a"].entries["b"].entries["link"].modified
	if !reflect.DeepEqual(found, again) {
		t.Errorf("%+v, then %+v", found, again)
	}
}

func TestWhatIsNoFileIsRefused(t *testing.T) {
	folder := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(folder, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(folder); err == nil {
		t.Error("a pipe was loaded")
	}
}
