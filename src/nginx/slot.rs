//! What was counted within some seconds, as it is and as it is stored.

use super::cause::CAUSES;
use super::packed::{Pack, Packer, Unpacker};
use super::summary::KINDS;

/// What nobody has counted within some seconds. Of less than this no sum overflows.
const COUNTED: u64 = 1 << 40;

/// Seconds from 1970, both ways, that no log and no clock tells of.
const TIMES: i64 = 1 << 40;

/// What happened within some seconds.
#[derive(Debug, Clone, Default)]
pub struct Slot {
    /// The second at which it begins.
    pub start: i64,
    /// Events by cause.
    pub causes: [u64; CAUSES],
    /// Lines that a request wrote.
    pub suspect: u64,
    /// Lines of failures that cannot be read.
    pub unparsed: u64,
    /// The first and the last counted event, in seconds from the start of the slot.
    pub span: Option<(u8, u8)>,
    /// Counted events by name: upstreams, servers, clients, URIs.
    pub who: [Vec<(u32, u64)>; KINDS],
    /// The connections of counted events, sorted once packed.
    pub connections: Vec<u64>,
}

impl Pack for Slot {
    fn pack(&self, into: &mut Packer) {
        into.push(self.start.cast_unsigned());
        let causes = (0_u64..).zip(self.causes).filter(|(_, count)| *count > 0);
        into.push(causes.clone().count() as u64);
        for (cause, count) in causes {
            into.push(cause);
            into.push(count);
        }
        into.push(self.suspect);
        into.push(self.unparsed);
        let (first, last) = self
            .span
            .map_or((0, 0), |(a, b)| (u64::from(a) + 1, b.into()));
        into.push(first);
        into.push(last);
        for list in &self.who {
            into.push(list.len() as u64);
            for &(name, count) in list {
                into.push(name.into());
                into.push(count);
            }
        }
        into.sorted(&self.connections);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let count = |from: &mut Unpacker<'_>| from.next().filter(|count| *count < COUNTED);
        let pair = |from: &mut Unpacker<'_>| {
            let name = u32::try_from(from.next()?).ok()?;
            Some((name, count(from)?))
        };
        let start = from.next()?.cast_signed();
        let mut slot = Self {
            start: Some(start).filter(|start| (-TIMES..TIMES).contains(start))?,
            ..Self::default()
        };
        for (cause, number) in from.list(pair)? {
            *slot.causes.get_mut(cause as usize)? = number;
        }
        slot.suspect = count(from)?;
        slot.unparsed = count(from)?;
        let (first, last) = (from.next()?, u8::try_from(from.next()?).ok()?);
        slot.span = match first.checked_sub(1) {
            Some(first) => Some((u8::try_from(first).ok()?, last)),
            None => None,
        };
        for list in &mut slot.who {
            *list = from.list(pair)?;
        }
        slot.connections = from.sorted()?;
        Some(slot)
    }
}

/// Adds to the count of a name. `hint` is where it may be in the list. `false` where the list has no room for it.
pub fn add_to(
    list: &mut Vec<(u32, u64)>,
    name: u32,
    more: u64,
    room: usize,
    hint: &mut u8,
) -> bool {
    if let Some((known, count)) = list.get_mut(usize::from(*hint))
        && *known == name
    {
        *count += more;
        return true;
    }
    let place = list.iter().position(|(known, _)| *known == name);
    let place = match place {
        Some(place) => {
            list[place].1 += more;
            place
        }
        None if list.len() < room => {
            list.push((name, more));
            list.len() - 1
        }
        None => return false,
    };
    *hint = u8::try_from(place).unwrap_or(0);
    true
}
