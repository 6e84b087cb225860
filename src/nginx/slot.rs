//! What was counted within some seconds, as it is and as it is stored.

use super::cause::CAUSES;
use super::connections::Connections;
use super::packed::{Block, Pack, Packer, Unpacker};
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
    /// Counted events by name.
    pub who: Who,
    /// The connections of counted events.
    pub connections: Connections,
}

/// How often the names of one kind came, by their numbers.
pub type Names = Vec<(u32, u64)>;

/// Counted events by name: upstreams, servers, clients, URIs. What nothing is added to stays as it was stored.
#[derive(Debug, Clone)]
pub enum Who {
    /// As it was stored.
    Packed(Block),
    /// One list for each kind.
    Open(Box<[Names; KINDS]>),
}

impl Default for Who {
    fn default() -> Self {
        Self::Packed(Block::default())
    }
}

impl Who {
    /// The lists, to add to.
    pub fn open(&mut self) -> &mut [Names; KINDS] {
        if let Self::Packed(block) = self {
            let mut lists = Box::<[Names; KINDS]>::default();
            each_in(block, |kind, name, count| lists[kind].push((name, count)));
            *self = Self::Open(lists);
        }
        match self {
            Self::Open(lists) => lists,
            Self::Packed(_) => unreachable!("it was opened above"),
        }
    }

    /// Each kind, name and count.
    pub fn each(&self, mut take: impl FnMut(usize, u32, u64)) {
        match self {
            Self::Packed(block) => each_in(block, take),
            Self::Open(lists) => {
                for (kind, list) in lists.iter().enumerate() {
                    for &(name, count) in list {
                        take(kind, name, count);
                    }
                }
            }
        }
    }
}

fn each_in(block: &Block, mut take: impl FnMut(usize, u32, u64)) {
    let mut numbers = block.numbers();
    let mut kind = 0;
    while let (Some(length), true) = (numbers.length(), kind < KINDS) {
        for _ in 0..length {
            let (Some(name), Some(count)) = (numbers.next(), numbers.next()) else {
                return;
            };
            if let (Ok(name), true) = (u32::try_from(name), count < COUNTED) {
                take(kind, name, count);
            }
        }
        kind += 1;
    }
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
        match &self.who {
            Who::Packed(block) => into.block(block),
            Who::Open(lists) => into.block(&Block::of(|into| {
                for list in lists.iter() {
                    into.push(list.len() as u64);
                    for &(name, count) in list {
                        into.push(name.into());
                        into.push(count);
                    }
                }
            })),
        }
        self.connections.pack(into);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let count = |from: &mut Unpacker<'_>| from.next().filter(|count| *count < COUNTED);
        let start = from.next()?.cast_signed();
        let mut slot = Self {
            start: Some(start).filter(|start| (-TIMES..TIMES).contains(start))?,
            ..Self::default()
        };
        for _ in 0..from.length()? {
            let cause = usize::try_from(from.next()?).ok()?;
            *slot.causes.get_mut(cause)? = count(from)?;
        }
        slot.suspect = count(from)?;
        slot.unparsed = count(from)?;
        let (first, last) = (from.next()?, u8::try_from(from.next()?).ok()?);
        slot.span = match first.checked_sub(1) {
            Some(first) => Some((u8::try_from(first).ok()?, last)),
            None => None,
        };
        slot.who = Who::Packed(from.block()?);
        slot.connections = Connections::unpack(from)?;
        Some(slot)
    }
}

/// Adds to the count of a name. `hint` is where it may be in the list. `false` where the list has no room for it.
pub fn add_to(list: &mut Names, name: u32, more: u64, room: usize, hint: &mut u8) -> bool {
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
