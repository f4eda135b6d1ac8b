//! What no scheduler can do better.
