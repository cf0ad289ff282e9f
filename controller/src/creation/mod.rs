//! Runner creation: the runners of one scale-up are made many at a time, where ARC makes one after the other.

pub mod gate;
