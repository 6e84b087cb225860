//! A log and its earlier generations: what to read of which file, oldest first.
//!
//! Generations are found by looking (the same folder, a name that begins alike) and told apart by what was read of
//! them, not by how a rotation tool names them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::bisect::{self, Since};
use super::compressed;
use super::cursor::Cursor;
use super::dialect::Dialect;
use super::generation::{Generation, candidates, generations, open};
use super::links;
use super::wrapping::Wrapping;

/// How long to wait for a log that is just being rotated, and how often.
const GAP: Duration = Duration::from_millis(20);
const GAP_TRIES: u32 = 10;

/// How many earlier generations are remembered: more than are looked at, or one that was read would be read again.
const REMEMBERED: usize = 80;

/// What is remembered of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file that bore the log's name at the last run.
    pub current: Option<Cursor>,
    /// The generations before it that were read, the latest last.
    pub earlier: Vec<Cursor>,
    /// The entry of the journal that was read last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Whether there was a rotation in the last run: a worker may have gone on writing to the renamed file.
    pub rotated: bool,
    /// The latest time read.
    pub latest: Option<i64>,
    /// Whether lines of nginx' were found in it.
    pub recognised: bool,
    /// The levels of its lines, as bits of `line::Level`.
    pub levels: u8,
    /// The offset of its local time from UTC in seconds, where it showed that it is not this host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i32>,
    /// Whose words it was found to be written in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<Dialect>,
    /// What was found around its lines.
    #[serde(default)]
    pub wrapping: Wrapping,
}

/// A file, or a part of one, that is to be read.
#[derive(Debug)]
pub struct Part {
    /// Where it was found.
    pub path: PathBuf,
    /// Open for reading.
    pub file: File,
    /// Where to begin.
    pub from: u64,
    /// Whether that is within a line longer than the buffer.
    pub skipping: bool,
    /// Whether it bears the log's name now.
    pub is_current: bool,
    /// Whether it has to be unpacked; places in it are places in what it holds.
    pub is_compressed: bool,
}

/// What to read of a log.
#[derive(Debug)]
pub struct Parts {
    /// Oldest first; the last one is current.
    pub all: Vec<Part>,
    /// Whether the log was rotated or truncated since the last run.
    pub rotated: bool,
    /// Whether it may have been, without a sign of it: the next run looks at the earlier generations once more.
    pub doubtful: bool,
}

/// What has to be read of a log to know all that happened since then, given what was read before; `apart` from logs
/// that are read by themselves.
pub fn parts(
    path: &Path,
    place: &Place,
    since: Since<'_>,
    apart: &[PathBuf],
) -> anyhow::Result<Parts> {
    let mut tries = 0;
    let file = loop {
        match links::open(path) {
            // A log that was there a run ago is being rotated: renamed, and the new one not yet made.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && place.current.is_some()
                    && tries < GAP_TRIES =>
            {
                tries += 1;
                std::thread::sleep(GAP);
            }
            Err(_) if tries > 0 => match renamed(path, place)? {
                Some(parts) => return Ok(parts),
                None => break open(path)?,
            },
            _ => break open(path)?,
        }
    };
    let shown = || format!("cannot read {}", path.display());
    if compressed::is_compressed(&file).with_context(shown)? {
        return compressed(path, file, place).with_context(shown);
    }
    match &place.current {
        Some(cursor) => resume(path, file, (place, cursor), since, apart).with_context(shown),
        None => look_back(path, file, since, apart).with_context(shown),
    }
}

/// What is new in the file that bore the log's name, where that is gone and nothing has it now.
fn renamed(path: &Path, place: &Place) -> anyhow::Result<Option<Parts>> {
    let Some(cursor) = &place.current else {
        return Ok(None);
    };
    let Ok(found) = candidates(path) else {
        return Ok(None);
    };
    for candidate in found.into_iter().rev() {
        let is_it = !candidate.is_compressed
            && cursor.is_inode_of(&candidate.file)?
            && cursor.fits(&candidate.file)?;
        if is_it {
            let begin = (cursor.offset, cursor.skipping);
            // It goes on being the current one: the next run finds it renamed beside the new one.
            return Ok(Some(Parts {
                all: vec![part(&candidate.path, candidate.file, begin, true)],
                rotated: false,
                doubtful: false,
            }));
        }
    }
    Ok(None)
}

/// A log that is compressed itself is read once: it does not grow and has no earlier generations.
fn compressed(path: &Path, file: File, place: &Place) -> io::Result<Parts> {
    let head = compressed::head(&file)?;
    let known = place
        .current
        .as_ref()
        .filter(|cursor| cursor.has_head(&head));
    let begin = known.map_or((0, false), |cursor| (cursor.offset, cursor.skipping));
    Ok(Parts {
        all: vec![Part {
            is_compressed: true,
            ..part(path, file, begin, true)
        }],
        rotated: false,
        doubtful: false,
    })
}

fn resume(
    path: &Path,
    file: File,
    (place, cursor): (&Place, &Cursor),
    since: Since<'_>,
    apart: &[PathBuf],
) -> io::Result<Parts> {
    let fits = cursor.fits(&file)?;
    // Of an empty file nothing is known that could show that it was filled, copied and truncated meanwhile.
    let sure = cursor.offset > 0 && !place.rotated;
    if fits && cursor.is_inode_of(&file)? && sure {
        let begin = (cursor.offset, cursor.skipping);
        let parts = vec![part(path, file, begin, true)];
        return Ok(Parts {
            all: parts,
            rotated: false,
            doubtful: false,
        });
    }
    let candidates = generations(path, &file, apart)?;
    // A file with our inode that was renamed is ours, even where the new one begins with the same bytes.
    let mut renamed = false;
    for candidate in &candidates {
        renamed |= cursor.is_inode_of(&candidate.file)? && cursor.fits(&candidate.file)?;
    }
    let goes_on = fits && (cursor.is_inode_of(&file)? || !renamed);
    let mut known = Known {
        earlier: place.earlier.iter().collect(),
        current: (!goes_on).then_some(cursor),
    };
    let mut claims = Vec::with_capacity(candidates.len());
    for candidate in &candidates {
        claims.push(if candidate.is_compressed {
            None
        } else {
            known.claim_by_inode(&candidate.file)?
        });
    }
    let mut parts = Vec::new();
    for (candidate, claim) in candidates.into_iter().zip(claims) {
        let Generation {
            path,
            file,
            size,
            modified,
            is_compressed,
            ..
        } = candidate;
        // A file that was compressed keeps its time, not its inode.
        if is_compressed {
            if modified >= since.second {
                let begin = known.place_in_compressed(&compressed::head(&file)?);
                parts.push(Part {
                    is_compressed,
                    ..part(&path, file, begin, false)
                });
            }
            continue;
        }
        let claim = match claim {
            Some(cursor) => Some(cursor),
            None => known.claim_by_content(&file)?,
        };
        let begin = match claim {
            Some(cursor) => (cursor.offset, cursor.skipping),
            None if modified < since.second || known.is_copy(&file, size)? => continue,
            None => (bisect::start_of(&file, size, since)?, false),
        };
        parts.push(part(&path, file, begin, false));
    }
    let begin = if goes_on {
        (cursor.offset, cursor.skipping)
    } else {
        (0, false)
    };
    parts.push(part(path, file, begin, true));
    // A file that was empty can have given its inode away to the one that bears the name now: then there was a rotation.
    let doubtful = cursor.offset == 0 && parts.len() > 1;
    Ok(Parts {
        all: parts,
        rotated: !goes_on,
        doubtful,
    })
}

/// What was read before, each for one file to go on in.
struct Known<'a> {
    earlier: Vec<&'a Cursor>,
    /// That of the file that bore the log's name, where it bears it no more.
    current: Option<&'a Cursor>,
}

impl<'a> Known<'a> {
    /// The place in a file that kept its inode, as it does when it is renamed.
    fn claim_by_inode(&mut self, file: &File) -> io::Result<Option<&'a Cursor>> {
        // Of what was empty nothing is known: it is read from its start in any case, and its inode may be another's.
        if let Some(cursor) = self.current
            && cursor.offset > 0
            && cursor.is_inode_of(file)?
            && cursor.fits(file)?
        {
            return Ok(self.current.take());
        }
        // The latest first: of two with one number it is the one that was read further.
        for number in (0..self.earlier.len()).rev() {
            let cursor = self.earlier[number];
            if cursor.offset > 0 && cursor.is_inode_of(file)? && cursor.fits(file)? {
                return Ok(Some(self.earlier.remove(number)));
            }
        }
        Ok(None)
    }

    /// The place in a copy that was made before the log was truncated.
    fn claim_by_content(&mut self, file: &File) -> io::Result<Option<&'a Cursor>> {
        match self.current {
            Some(cursor) if cursor.offset > 0 && cursor.fits(file)? => Ok(self.current.take()),
            _ => Ok(None),
        }
    }

    /// Where to go on in a compressed file with this head: where reading stopped, if it was read before.
    fn place_in_compressed(&mut self, head: &[u8]) -> (u64, bool) {
        let found = self
            .current
            .take_if(|cursor| cursor.has_head(head))
            .or_else(|| {
                let known = self.earlier.iter().filter(|cursor| cursor.has_head(head));
                known.copied().max_by_key(|cursor| cursor.offset)
            });
        found.map_or((0, false), |cursor| (cursor.offset, cursor.skipping))
    }

    /// Whether this holds just what was read under another inode, which is gone.
    fn is_copy(&self, file: &File, size: u64) -> io::Result<bool> {
        for cursor in &self.earlier {
            if cursor.offset > 0 && cursor.offset == size && cursor.fits(file)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn look_back(path: &Path, file: File, since: Since<'_>, apart: &[PathBuf]) -> io::Result<Parts> {
    let mut parts = Vec::new();
    let size = file.metadata()?.len();
    let start = bisect::start_of(&file, size, since)?;
    if start == 0 {
        for generation in generations(path, &file, apart)? {
            let Generation {
                path,
                file,
                size,
                modified,
                is_compressed,
                ..
            } = generation;
            if modified < since.second {
                continue;
            }
            let start = if is_compressed {
                0
            } else {
                bisect::start_of(&file, size, since)?
            };
            parts.push(Part {
                is_compressed,
                ..part(&path, file, (start, false), false)
            });
        }
    }
    let rotated = !parts.is_empty();
    parts.push(part(path, file, (start, false), true));
    Ok(Parts {
        all: parts,
        rotated,
        doubtful: false,
    })
}

/// A plain part; `begin` is where, and whether that is within a line longer than the buffer.
fn part(path: &Path, file: File, begin: (u64, bool), is_current: bool) -> Part {
    Part {
        path: path.to_owned(),
        file,
        from: begin.0,
        skipping: begin.1,
        is_current,
        is_compressed: false,
    }
}

impl Place {
    /// What to remember after these were read, each up to its place; the flag says which one bears the log's name.
    /// Where reading was ended early that one may be missing.
    pub fn advance(&mut self, read: Vec<(Cursor, bool)>, rotated: bool) {
        let whole = read.last().is_some_and(|(_, is_current)| *is_current);
        let mut current = None;
        if rotated {
            self.earlier.extend(self.current.take());
        }
        for (cursor, is_current) in read {
            self.earlier
                .retain(|known| !known.is_earlier_part_of(&cursor));
            if is_current {
                current = Some(cursor);
            } else {
                self.earlier.push(cursor);
            }
        }
        if rotated && !whole {
            // The next run finds this one renamed, and goes on from there.
            current = self.earlier.pop();
        }
        if current.is_some() {
            self.current = current;
        }
        self.earlier.retain(|known| known.offset > 0);
        let surplus = self.earlier.len().saturating_sub(REMEMBERED);
        self.earlier.drain(..surplus);
        self.rotated = rotated;
    }
}
