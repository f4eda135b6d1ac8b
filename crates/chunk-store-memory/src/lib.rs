//! Strict in-memory reference backends for the index and the bytes
