//! What is closed and not over: ports in TIME_WAIT, and who may take them over.

use super::{A, Mixture, TO, TO2};
use crate::support::sockets::Choice::{Bind, Connect};

#[test]
fn time_wait_without_reuse_holds_its_port() {
    Mixture {
        build: |scene| scene.time_wait(A, TO, 70, Connect),
        connects: &[(A, TO), (A, TO2)],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn a_young_time_wait_is_not_taken_over() {
    Mixture {
        build: |scene| {
            scene.ns.set("ipv4/tcp_tw_reuse", "1");
            scene.ns.set("ipv4/tcp_tw_reuse_delay", "50000");
            scene.time_wait(A, TO, 70, Connect);
        },
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn a_time_wait_that_may_be_taken_over_is_free_for_connect_and_not_for_bind() {
    Mixture {
        build: |scene| {
            scene.ns.set("ipv4/tcp_tw_reuse", "1");
            scene.ns.set("ipv4/tcp_tw_reuse_delay", "1");
            scene.time_wait(A, TO, 70, Connect);
        },
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn without_timestamps_no_time_wait_is_taken_over() {
    Mixture {
        build: |scene| {
            scene.ns.set("ipv4/tcp_timestamps", "0");
            scene.ns.set("ipv4/tcp_tw_reuse", "1");
            scene.ns.set("ipv4/tcp_tw_reuse_delay", "1");
            scene.time_wait(A, TO, 40, Connect);
        },
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn loopback_has_reuse_by_default() {
    Mixture {
        build: |scene| {
            scene.ns.set("ipv4/tcp_tw_reuse_delay", "1");
            scene.time_wait("127.0.0.1", "127.0.0.1:80", 60, Connect);
            scene.time_wait(A, TO, 60, Connect);
        },
        connects: &[("127.0.0.1", "127.0.0.1:80"), (A, TO)],
        binds: &["127.0.0.1", A, "0.0.0.0"],
        ..Mixture::default()
    }
    .compare();
}

#[test]
fn time_wait_of_a_bound_socket_is_never_taken_over() {
    Mixture {
        build: |scene| {
            scene.ns.set("ipv4/tcp_tw_reuse", "1");
            scene.ns.set("ipv4/tcp_tw_reuse_delay", "1");
            scene.time_wait(A, TO, 60, Bind);
        },
        connects: &[(A, TO)],
        ..Mixture::default()
    }
    .compare();
}
