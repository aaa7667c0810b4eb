//! The agent against a scripted coordinator and trainers that are shell scripts.

mod attempts;
mod coordinator;
mod leaving;
mod program;
mod sessions;
mod stage;
