//! Properties of what waits for Icinga.

use super::client::Last;
use super::passive::{Name, Passive};
use crate::fuzzing::Feed;

/// A name, a result and what Icinga says it has: whatever stands there, there is an answer, and a result that is stored
/// comes back as it was.
pub fn queue(data: &[u8]) {
    let mut feed = Feed(data);
    if let Ok(name) = std::str::from_utf8(feed.some())
        && let Some(name) = Name::parse(name)
    {
        assert!(name.stamp().is_some());
        let _ = name.is_ok();
    }
    let last = Last(std::array::from_fn(|_| feed.number().cast_signed()));
    let Ok(result) = serde_json::from_slice::<Passive>(feed.0) else {
        return;
    };
    let stored = serde_json::to_vec(&result).expect("a result can be stored");
    let again: Passive = serde_json::from_slice(&stored).expect("what was stored can be read");
    assert_eq!(again, result);
    // Never "it arrived" by numbers that wrap round.
    if last.has(&result) == Some(true) {
        let end = last.0[usize::from(result.state).min(3)];
        assert!(end.abs_diff(result.end) < 1_000_000);
    }
    let _ = last.began_by([(result.end, result.start), (feed.number().cast_signed(), 0)]);
}
