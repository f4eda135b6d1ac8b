//! Inbound HTTP adapter: players and browsers in front of the manager
