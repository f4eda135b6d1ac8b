//! Conformance suites, scripted origin and fault injection for chunkd's ports

pub mod byte_store;
pub mod chunk_store;
pub mod events;
pub mod faulty;
pub mod fetcher;
pub mod origin;
