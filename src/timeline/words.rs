//! Figures and names as people read them.

use crate::plugin::clean::clean_cut;

/// A name from outside, made harmless.
pub fn name(bytes: &[u8]) -> String {
    clean_cut(bytes, 60)
}

/// `1 bin`, `2 bins`.
pub fn many(count: impl Into<u128>, noun: &str) -> String {
    let count = count.into();
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// `p = 0.03`, `p = 2e-10`, `p < 1e-99`.
pub fn p_value(p: f64) -> String {
    if p >= 0.001 {
        format!("p = {p:.3}")
    } else if p > 1e-99 {
        format!("p = {p:.0e}")
    } else {
        "p < 1e-99".to_owned()
    }
}

/// `12 times as often as chance`.
pub fn times(times: f64) -> String {
    if times >= 10.0 {
        format!("{times:.0} times as often as chance")
    } else {
        format!("{times:.1} times as often as chance")
    }
}

/// `97 %`; never 0 or 100 for what is not.
pub fn percent(part: u64, whole: u64) -> String {
    let share = part as f64 / whole.max(1) as f64 * 100.0;
    if part == whole || part == 0 {
        format!("{share:.0} %")
    } else if !(1.0..=99.0).contains(&share) {
        format!("{:.2} %", share.clamp(0.01, 99.99))
    } else {
        format!("{share:.0} %")
    }
}

/// Thousands apart from each other by a narrow blank, from five digits on.
pub fn grouped(value: f64) -> String {
    let text = value.to_string();
    let (units, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    if units.len() <= 4 || !units.bytes().all(|byte| byte.is_ascii_digit()) {
        return text;
    }
    let mut out = String::new();
    for (at, digit) in units.chars().enumerate() {
        if at > 0 && (units.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_figures_are_grouped() {
        for (value, text) in [
            (0.0, "0"),
            (9999.5, "9999.5"),
            (12_345.25, "12\u{202f}345.25"),
            (4_300_000.0, "4\u{202f}300\u{202f}000"),
        ] {
            assert_eq!(grouped(value), text);
        }
    }
}
