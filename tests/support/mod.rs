//! What the tests and the demo start: the plugins themselves, network namespaces, servers that misbehave.
#![allow(dead_code)] // each user takes a part of it

pub mod browser;
pub mod child;
pub mod crowd;
pub mod cutting_proxy;
pub mod daemons;
pub mod debian;
pub mod director;
pub mod docker;
pub mod fault_server;
pub mod growing_log;
pub mod help;
pub mod icinga;
pub mod icinga_web;
pub mod identity;
pub mod incident;
pub mod injection;
pub mod measured;
pub mod nagios;
pub mod names;
pub mod netns;
pub mod nginx;
pub mod oracle;
pub mod plugin;
pub mod proxy;
pub mod raw_server;
pub mod seccomp;
pub mod shim;
pub mod skip;
pub mod sockets;
pub mod tcp_table;
pub mod tshark;
pub mod udp;
pub mod watched;
pub mod wrapped;
