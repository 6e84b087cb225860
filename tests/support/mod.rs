//! What the tests and the demo start: the plugins themselves, network namespaces, servers that misbehave.
#![allow(dead_code)] // each user takes a part of it

pub mod netns;
pub mod oracle;
pub mod plugin;
pub mod sockets;
