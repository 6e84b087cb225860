//! Backends that came from nowhere: an address that a name should not have.

use std::collections::BTreeMap;

use super::facts::Facts;
use super::shares::{Dimension, Share};
use super::sort::Origin;

/// A backend that was tried late, when others had served for long, and that never answered.
pub struct Stranger<'a> {
    pub address: &'a [u8],
    pub share: Share,
    /// Since when others served.
    pub others_since: i64,
    pub others_tried: u64,
}

/// Backends that never answered and were first tried when others had served long enough.
pub fn strangers<'a>(facts: &'a Facts<'_>) -> Vec<Stranger<'a>> {
    let mut by_address: BTreeMap<&[u8], (Share, Vec<&[u8]>)> = BTreeMap::new();
    let entries = facts.shares.of(Origin::AccessLog, Dimension::Backend);
    for entry in &entries {
        let (share, services) = by_address.entry(entry.value).or_default();
        *share = share.and(entry.share);
        services.push(entry.service);
    }
    by_address
        .iter()
        .filter(|(_, (share, _))| share.failed == share.tried)
        .filter_map(|(address, (share, services))| {
            let first = share.first?;
            let others = entries
                .iter()
                .filter(|entry| entry.value != *address && services.contains(&entry.service));
            let others = others
                .map(|entry| entry.share)
                .fold(Share::default(), Share::and);
            let others_since = others.first_well?;
            // A share of the tries that chance would hardly have left out until then.
            let before = (first - others_since).max(0) as f64;
            let span = (others.last_well?.max(first) - others_since).max(1) as f64;
            let expected = share.tried as f64 * before / span;
            (expected >= 3.0).then_some(Stranger {
                address,
                share: *share,
                others_since,
                others_tried: others.tried,
            })
        })
        .collect()
}
