//! In-process event bus for cache events
