//! What tells others, and what tells the service: waiting, events, webhooks.

mod events;
mod outbox;
mod runs;
pub mod sqs;
mod waiting;
mod webhooks;
