//! The binaries as a user runs them, against real servers, sockets and daemons.
#![allow(missing_docs)]
#![allow(clippy::too_many_lines)] // a table is as long as it has cases

#[path = "../support/mod.rs"]
mod support;

mod by_ssh;
mod containers;
mod contract;
mod docs;
mod empty_root;
mod help;
mod hostile;
mod http;
mod icinga;
mod incident;
mod manuals;
mod munin;
mod nagios;
mod nginx;
mod openmetrics;
mod perfdata;
mod ports;
mod privileges;
mod submit;
mod supply;
mod timeline;
