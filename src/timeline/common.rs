//! What the failing services have in common, and those that stayed well do not share.

use std::collections::{BTreeMap, BTreeSet};

use super::shares::{Dimension, Share, Shares};
use super::sort::Origin;
use crate::stats;

/// How many findings are kept.
const MOST: usize = 20;

/// Something that services go through, and how those that do fare beside those that do not.
#[derive(Debug, Clone)]
pub struct Common {
    pub origin: Origin,
    pub dimension: Dimension,
    pub value: Box<[u8]>,
    /// All tries with it, and all without it.
    pub with: Share,
    pub without: Share,
    /// How likely chance sets the two as far apart: Fisher's exact test, times the values that were compared.
    pub p_value: f64,
    /// Services that failed and that go through it, of so many that failed; the same of those that stayed well.
    pub failing: (usize, usize),
    pub well: (usize, usize),
}

impl Common {
    /// Whether all failing services go through it and none that stayed well does.
    pub fn parts_them(&self) -> bool {
        let (with, all) = self.failing;
        all > 0 && with == all && self.well.0 == 0 && self.well.1 > 0
    }

    /// Whether all failures went through it.
    pub fn holds_all(&self) -> bool {
        self.with.failed > 0 && self.without.failed == 0
    }
}

/// A service with its tries.
#[derive(Debug, Clone)]
pub struct Service {
    pub origin: Origin,
    pub name: Box<[u8]>,
    pub share: Share,
}

/// The services of each origin, the worst first.
pub fn services(shares: &Shares) -> Vec<Service> {
    let mut services: Vec<Service> = Origin::ALL
        .into_iter()
        .flat_map(|origin| shares.of(origin, Dimension::Service))
        .map(|entry| Service {
            origin: entry.origin,
            name: entry.service.into(),
            share: entry.share,
        })
        .collect();
    services.sort_by(|a, b| {
        let key = |service: &Service| (service.origin, std::cmp::Reverse(service.share.failed));
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    services
}

/// What tells failures from the rest, the surest first.
pub fn common(shares: &Shares) -> Vec<Common> {
    let mut found = Vec::new();
    for origin in Origin::ALL {
        let services: BTreeMap<_, _> = shares
            .of(origin, Dimension::Service)
            .into_iter()
            .map(|entry| (entry.service, entry.share))
            .collect();
        for dimension in Dimension::ALL {
            found.extend(of_dimension(shares, origin, dimension, &services));
        }
    }
    found.sort_by(|a, b| {
        let key = |one: &Common| (!one.parts_them(), !one.holds_all());
        key(a)
            .cmp(&key(b))
            .then_with(|| a.p_value.total_cmp(&b.p_value))
            .then_with(|| b.with.failed.cmp(&a.with.failed))
    });
    found.truncate(MOST);
    found
}

fn of_dimension(
    shares: &Shares,
    origin: Origin,
    dimension: Dimension,
    services: &BTreeMap<&[u8], Share>,
) -> Vec<Common> {
    let mut values: BTreeMap<&[u8], (Share, BTreeSet<&[u8]>)> = BTreeMap::new();
    let mut all = Share::default();
    let entries = shares.of(origin, dimension);
    for entry in &entries {
        let (share, users) = values.entry(entry.value).or_default();
        *share = share.and(entry.share);
        users.insert(entry.service);
        all = all.and(entry.share);
    }
    let has_failed = |service: &[u8]| services.get(service).is_some_and(|share| share.failed > 0);
    let failing = services.values().filter(|share| share.failed > 0).count();
    let well = services.len() - failing;
    let count = values.len() as f64;
    let judged = values.into_iter().filter_map(|(value, (with, users))| {
        let without = Share {
            tried: all.tried - with.tried,
            failed: all.failed - with.failed,
            ..Share::default()
        };
        let rate = |share: Share| share.failed as f64 / share.tried.max(1) as f64;
        // With nothing to compare it with there is nothing to say.
        if without.tried == 0 || with.failed == 0 || rate(with) <= rate(without) {
            return None;
        }
        let p = stats::fisher((with.failed, with.tried), (without.failed, without.tried));
        let users_failing = users.iter().filter(|service| has_failed(service)).count();
        Some(Common {
            origin,
            dimension,
            value: value.into(),
            with,
            without,
            p_value: (p * count).min(1.0),
            failing: (users_failing, failing),
            well: (users.len() - users_failing, well),
        })
    });
    judged
        .filter(|common| common.p_value < stats::SIGNIFICANT)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_that_the_failing_services_share_is_found() {
        let mut shares = Shares::default();
        let of = |dimension| (Origin::AccessLog, dimension);
        for n in 0..300 {
            for (service, proxy) in [("a", "proxy1"), ("b", "proxy1"), ("c", "proxy0")] {
                let failed = proxy == "proxy1" && n % 10 == 0;
                shares.add(n, failed, of(Dimension::Service), service.as_bytes(), b"");
                shares.add(
                    n,
                    failed,
                    of(Dimension::Proxy),
                    service.as_bytes(),
                    proxy.as_bytes(),
                );
                let backend = if n % 2 == 0 { "x" } else { "y" };
                shares.add(
                    n,
                    failed,
                    of(Dimension::Backend),
                    service.as_bytes(),
                    backend.as_bytes(),
                );
            }
        }
        let found = common(&shares);
        let first = &found[0];
        assert_eq!(
            (first.dimension, &*first.value),
            (Dimension::Proxy, &b"proxy1"[..])
        );
        assert!(first.parts_them() && first.p_value < 1e-6);
        assert_eq!((first.failing, first.well), ((2, 2), (0, 1)));
        assert_eq!((first.with.failed, first.with.tried), (60, 600));
        let names: Vec<_> = services(&shares)
            .into_iter()
            .map(|service| (service.name, service.share.failed))
            .collect();
        assert_eq!(
            names,
            [
                (b"a"[..].into(), 30),
                (b"b"[..].into(), 30),
                (b"c"[..].into(), 0)
            ]
        );
        assert!(common(&Shares::default()).is_empty());
    }
}
