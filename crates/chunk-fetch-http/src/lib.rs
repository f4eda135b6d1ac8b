//! HTTP origins behind the fetcher port
