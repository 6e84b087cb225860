//! What the tests and the demo start: the plugins themselves, network namespaces, servers that misbehave.
#![allow(dead_code)] // each user takes a part of it

pub mod fault_server;
pub mod netns;
pub mod plugin;
