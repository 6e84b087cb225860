//! What is kept between two runs: the minutes and the places in the logs up to which they were counted, together in
//! one file, so that neither can be ahead of the other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::follow::Place;
use super::look::{AFTER, BEFORE};
use super::plan::Plan;
use super::tally::Tally;
use crate::plugin::state_file::{Found, StateFile, default_path};

/// The version of the format.
const VERSION: u32 = 6;

/// What is kept, above a line with the slots of the tally.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Kept {
    settings: String,
    /// The end of the window, in seconds since 1970: what this host's clock said.
    #[serde(default)]
    to: i64,
    /// By the path of the log.
    places: BTreeMap<String, Place>,
    tally: Tally,
}

impl Kept {
    fn stored(&self) -> serde_json::Result<String> {
        let mut data = serde_json::to_string(self)?;
        data.push('\n');
        data.push_str(&self.tally.packed());
        Ok(data)
    }

    /// `None` where it is damaged.
    fn restored(data: &str) -> Option<Self> {
        let (rest, slots) = data.split_once('\n')?;
        let kept: Self = serde_json::from_str(rest).ok()?;
        let tally = kept.tally.restored(slots)?;
        Some(Self { tally, ..kept })
    }
}

impl Kept {
    /// Whether this was stored by a clock that took lines of the window that ends then for older ones, or for ones that
    /// were yet to come, and left them out. Where it was ahead by more than reading goes beyond a window, it is the clock
    /// of now that may be wrong.
    fn is_of_a_wrong_clock(&self, to: i64) -> bool {
        let was_ahead = (BEFORE + 1..=AFTER).contains(&self.to.saturating_sub(to));
        was_ahead || self.tally.lacks(to.saturating_add(AFTER))
    }

    /// Places of logs of which no more is known than in which zone their times are.
    fn zones(self) -> BTreeMap<String, Place> {
        let zone = |(path, place): (String, Place)| {
            let offset = place.offset;
            (
                path,
                Place {
                    offset,
                    ..Place::default()
                },
            )
        };
        self.places.into_iter().map(zone).collect()
    }
}

/// The counts in the data of a state file; `None` where it is refused.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn content(data: &str) -> Option<Tally> {
    Some(Kept::restored(data)?.tally)
}

/// What is known from earlier runs, and where to store what this one learns.
#[derive(Debug)]
pub struct Memory {
    /// How far the logs were read, by path.
    pub places: BTreeMap<String, Place>,
    /// What was counted in them.
    pub tally: Tally,
    /// What a person should know about the state: why there is none, why it is not kept.
    pub notes: Vec<String>,
    /// Whether what was stored is to be replaced, whatever is read.
    pub is_new: bool,
    settings: String,
    to: i64,
    file: Option<StateFile>,
}

impl Memory {
    /// Nothing known, and nothing to be kept: for a look back.
    pub fn none(plan: &Plan) -> Self {
        Self {
            places: BTreeMap::new(),
            tally: Tally::new(plan.window.length()),
            notes: Vec::new(),
            is_new: false,
            settings: plan.settings(),
            to: plan.window.to,
            file: None,
        }
    }

    /// What the last run with these settings stored.
    pub fn recall(plan: &Plan) -> Self {
        let mut memory = Self::none(plan);
        let path = plan
            .state_file
            .clone()
            .unwrap_or_else(|| default_path(super::PLUGIN.binary, &memory.settings));
        let file = match StateFile::open(&path, super::PLUGIN.binary, VERSION) {
            Ok(file) => file,
            Err(error) => {
                memory.notes.push(format!(
                    "no state is kept, the window was read from the logs: {error:#}"
                ));
                return memory;
            }
        };
        match file.read() {
            Ok(Found::Nothing) => memory.notes.push(
                "first look: there is no state yet, the window was read from the logs".to_owned(),
            ),
            Ok(Found::Data(data)) => memory.take(&data, &file),
            Ok(Found::Unusable(told)) => memory
                .notes
                .push(format!("{told}; the window was read from the logs")),
            Err(error) => {
                memory.notes.push(format!(
                    "no state is kept, the window was read from the logs: {error:#}"
                ));
                return memory;
            }
        }
        memory.file = Some(file);
        memory
    }

    fn take(&mut self, data: &str, file: &StateFile) {
        match Kept::restored(data) {
            Some(kept) if kept.settings == self.settings && kept.is_of_a_wrong_clock(self.to) => {
                self.notes.push(
                    "the clock was put right since the last run: the window was read from the logs again"
                        .to_owned(),
                );
                self.places = kept.zones();
                self.is_new = true;
            }
            Some(kept) if kept.settings == self.settings => {
                self.places = kept.places;
                self.tally = kept.tally;
            }
            Some(_) => self.notes.push(
                "the state file was kept with other options; the window was read from the logs"
                    .to_owned(),
            ),
            None => self.notes.push(format!(
                "{}; the window was read from the logs",
                file.set_aside("is damaged")
            )),
        }
    }

    /// Stores what is known now. Trouble with that is a note, not a failure: the answer stands.
    pub fn keep(&mut self) {
        let Some(file) = &self.file else { return };
        if !file.is_held() {
            self.notes.push(
                "another run holds the state file: this one reads it and stores nothing".to_owned(),
            );
            return;
        }
        let kept = Kept {
            settings: self.settings.clone(),
            to: self.to,
            places: std::mem::take(&mut self.places),
            tally: std::mem::take(&mut self.tally),
        };
        let stored = kept
            .stored()
            .map_err(anyhow::Error::from)
            .and_then(|data| file.write(&data));
        if let Err(error) = stored {
            self.notes.push(format!(
                "the state could not be stored, the next run reads the same again: {error:#}"
            ));
        }
    }
}
