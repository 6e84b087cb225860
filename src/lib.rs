//! Check plugins for failures that come and go behind a reverse proxy.
//!
//! Every check is a straight line; only its second step speaks to the outside:
//!
//! ```text
//! argv -> Args -> Plan -> [ probe ] -> facts -> Summary -> Verdict -> Report -> stdout + exit code
//!                         the only I/O          ---------- pure functions ----------
//! ```
//!
//! | module | what it is for |
//! |---|---|
//! | [`plugin`] | the contract with Icinga and Nagios: options, ranges, report, exit code, deadline, signals, repeating |
//! | [`stats`] | percentiles and confidence intervals: numbers in, numbers out |
//! | [`http`] | `check_http_retry`: probes again and again until it fails |
//! | [`ports`] | `check_port_exhaustion`: how many connections the kernel still grants |
//! | [`nginx`] | `check_nginx_upstream_bind`: why nginx could not reach its upstreams, minute by minute |
//! | [`timeline`] | `incident_timeline`: what the logs of an incident say, side by side |

// Where it is allowed: docs/threat-model.md.
#![deny(unsafe_code)]

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod nginx;
pub mod plugin;
pub mod ports;
pub mod stats;
pub mod timeline;
