//! Actions Runner Controller (ARC) in tests: its real programs.

pub mod real;
