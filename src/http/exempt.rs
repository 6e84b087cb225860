//! What is connected to without a proxy, by `--noproxy`.

use std::net::IpAddr;

use super::target::literal;

/// What is connected to without a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exempt(Vec<Item>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    All,
    /// A name and all below it, in lower case.
    Domain(String),
    /// An address, and how many of its bits count.
    Net(IpAddr, u32),
}

impl Exempt {
    /// Reads a list: names, addresses and subnets, divided by commas or blanks; `*` for all.
    pub fn of(list: &str) -> Self {
        let words = list.split([',', ' ']).filter(|word| !word.is_empty());
        Self(words.map(item).collect())
    }

    /// Whether a host is in it.
    pub fn has(&self, name: &str) -> bool {
        let address = literal(name);
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.0.iter().any(|item| match (item, address) {
            (Item::All, _) => true,
            (Item::Domain(domain), _) => name
                .strip_suffix(domain)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            (Item::Net(net, bits), Some(address)) => same_net(*net, address, *bits),
            (Item::Net(..), None) => false,
        })
    }
}

fn item(word: &str) -> Item {
    if word == "*" {
        return Item::All;
    }
    let (net, bits) = word.split_once('/').unwrap_or((word, "128"));
    let net = net.trim_start_matches('[').trim_end_matches(']');
    match (net.parse(), bits.parse()) {
        (Ok(net), Ok(bits)) => Item::Net(net, bits),
        _ => Item::Domain(word.trim_matches('.').to_ascii_lowercase()),
    }
}

fn same_net(one: IpAddr, other: IpAddr, bits: u32) -> bool {
    let (difference, width) = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (u128::from(one.to_bits() ^ other.to_bits()), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits(), 128),
        _ => return false,
    };
    // More bits than an address has ask for all of it.
    let rest = width - bits.min(width);
    rest == 128 || difference >> rest == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exempt_is_so_by_name_domain_address_or_subnet() {
        for (list, yes, no) in [
            (
                "a.test, .b.test",
                &["a.test", "x.A.test", "b.test", "x.b.test"][..],
                &["xa.test", "c.test"][..],
            ),
            (
                "192.0.2.1,192.168.0.0/16",
                &["192.0.2.1", "192.168.7.7"],
                &["192.0.2.2", "192.169.0.1", "::1", "a"],
            ),
            (
                "::1,[2001:db8::]/32",
                &["::1", "2001:db8::7", "2001:db8::7%eth0"],
                &["::2", "2001:db9::"],
            ),
            ("0.0.0.0/0", &["192.0.2.1"], &["::1", "a"]),
            ("*", &["a", "::1"], &[]),
            ("", &[], &["a", ""]),
        ] {
            let exempt = Exempt::of(list);
            assert!(yes.iter().all(|name| exempt.has(name)), "{list}");
            assert!(!no.iter().any(|name| exempt.has(name)), "{list}");
        }
    }
}
