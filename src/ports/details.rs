//! Facts to the `details` of the JSON document; its names are an interface.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::headroom::Destination;
use super::limits;
use super::owners::Owners;
use super::report::Facts;
use super::socket::State as SocketState;
use super::sources::Source;
use crate::plugin::metric::number;

/// The most entries of a list, beside those asked for by name.
pub const MOST_LISTED: usize = 50;

/// The entry of one namespace.
pub fn details(facts: &Facts) -> Value {
    let Facts { look, headroom, .. } = facts;
    let census = &look.census;
    let sockets: Map<_, _> = SocketState::ALL
        .into_iter()
        .map(|state| (state.name().to_owned(), census.states[state.index()].into()))
        .collect();
    let limits: Vec<_> = look
        .limits
        .iter()
        .map(|limit| json!({"name": limit.name, "used": limit.used, "limit": limit.limit}))
        .collect();
    json!({
        "name": look.namespace,
        "protocol": look.protocol.name(),
        "range": [census.range.low, census.range.high],
        "reserved": census.range.size() - census.capacity,
        "capacity": census.capacity,
        "sockets": sockets,
        "bind_before_connect": headroom.bind_before_connect.name(),
        "sources": listed(&headroom.sources, |s| s.named).map(source).collect::<Vec<_>>(),
        "destinations": listed(&headroom.destinations, |d| d.named).map(destination).collect::<Vec<_>>(),
        "limits": limits,
        "counted": limits::COUNTERS.into_iter().zip(facts.counted).map(|(name, count)| (name.to_owned(), json!(count)))
            .collect::<Map<_, _>>(),
        "owners": facts.owners.map(owners),
    })
}

fn owners(owners: &Owners) -> Value {
    let list: Vec<_> = owners
        .list
        .iter()
        .take(MOST_LISTED)
        .map(|owner| json!({"process": owner.name, "pids": owner.pids, "sockets": owner.sockets}))
        .collect();
    json!({"sockets": owners.wanted, "processes": list, "hidden_processes": owners.hidden})
}

/// The first ones, and those asked for by name.
fn listed<T>(items: &[T], named: impl Fn(&T) -> bool) -> impl Iterator<Item = &T> {
    items
        .iter()
        .enumerate()
        .filter(move |(at, item)| *at < MOST_LISTED || named(item))
        .map(|(_, item)| item)
}

/// The entry of a local address.
pub fn source(source: &Source) -> Value {
    json!({
        "address": address(source.address),
        "bind_used": source.used,
        "bind_free": source.free,
        "seconds_left": source.seconds_left.map(number),
    })
}

/// The entry of a tuple.
pub fn destination(destination: &Destination) -> Value {
    let forecast = &destination.forecast;
    json!({
        "source": address(destination.tuple.source),
        "destination": address(destination.tuple.destination),
        "port": destination.tuple.port,
        "used": destination.used,
        "free": destination.free,
        "free_min": destination.free_min,
        "free_max": destination.free_max,
        "time_wait": destination.time_wait,
        "established": destination.established,
        "reusable": destination.reusable,
        "closed_per_second": number(forecast.closed_per_second),
        "limit_per_second": number(forecast.limit_per_second),
        "seconds_left": forecast.seconds_left.map(number),
    })
}

fn address(address: IpAddr) -> String {
    address.to_string()
}
