//! Properties of what reads the kernel's packets, and of what nobody may read in the files.

use super::capture::frames;
use super::flows;
use super::mask::Mask;

/// Packets, from their IP header on, and blocks of the kernel's ring with packets in them.
pub fn packets(data: &[u8]) {
    frames(data, &mut |frame| {
        let range = data.as_ptr_range();
        assert!(frame.bytes.is_empty() || range.contains(&frame.bytes.as_ptr()));
        let _ = flows::parse(frame.bytes);
    });
    if let Some((source, destination, tcp)) = flows::parse(data) {
        assert_eq!(source.is_ipv4(), destination.is_ipv4());
        assert!(tcp.data <= tcp.end && tcp.end <= data.len(), "{tcp:?}");
    }
}

/// Secrets in what is kept: masked, and once masked, masked for good.
pub fn secrets(data: &[u8]) {
    let mask = Mask::new([b"hunter2hunter2".to_vec()]);
    let mut once = data.to_vec();
    mask.apply(&mut once);
    assert_eq!(once.len(), data.len());
    let secret = &b"hunter2hunter2"[..];
    assert!(memchr::memmem::find(&once, secret).is_none());
    let mut twice = once.clone();
    mask.apply(&mut twice);
    let shown_again = |(one, two): (&u8, &u8)| one == &b'*' && two != &b'*';
    assert!(!once.iter().zip(&twice).any(shown_again));
}
