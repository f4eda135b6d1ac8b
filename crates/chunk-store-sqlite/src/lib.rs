//! SQLite index of what is cached and what is wanted
