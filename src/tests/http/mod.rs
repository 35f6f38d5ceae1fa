//! The HTTP API over real sockets.

mod bad_input;
mod files;
mod kit;
mod service;
mod tracks;
mod uploads;
