//! The companion controller: the only writer of cluster state.
