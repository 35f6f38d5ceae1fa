//! The main job over the wire, with the real binary.

mod kill;
mod main_job;
mod multipart;
