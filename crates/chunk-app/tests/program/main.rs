//! The program as its users meet it: the real binary, real sockets on loopback, a scripted origin.

mod crash;
mod descriptors;
mod endings;
mod errors;
mod http;
mod memory;
mod orders;
mod program;
mod same;
mod secrets;
mod secure;
mod serve;
mod takeover;
