//! ChunkManager: drives the scheduler, the fetcher and the stores
