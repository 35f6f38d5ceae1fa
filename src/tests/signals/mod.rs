//! What tells others, and what tells the service: waiting, events, webhooks.

mod events;
mod runs;
mod waiting;
mod webhooks;
