//! The HTTP API over real sockets.

mod accept;
mod attachments;
mod bad_input;
mod batches;
mod content;
mod dialects;
mod filepond;
mod files;
mod foreign_bytes;
mod forms;
mod hardening;
mod idempotency;
mod identity;
mod jwt;
mod kit;
mod limits;
mod ownership;
mod partial_files;
mod redirects;
mod service;
mod statements;
mod tracks;
mod tus;
mod upload_tokens;
mod uploads;
mod verifying;
