//! `headstart-controller`: parse the flags, run.

fn main() {}
