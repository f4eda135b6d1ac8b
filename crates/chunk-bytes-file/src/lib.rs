//! Cached bytes as files on a local file system
