//! Conformance suites, scripted origin and fault injection for chunkd's ports

pub mod origin;
