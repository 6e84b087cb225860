//! Random histories of writing, rotating, being killed and looking, against a model: every line counts once, and a
//! second look says what the first one said.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::cause::{Cause, CauseSet};
use super::clock::Clock;
use super::is_worth_keeping;
use super::look::look;
use super::plan::{Plan, Window};
use super::verdict::Thresholds;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// So many whole lines.
    Write(u8),
    /// Half a line; the next writing ends it.
    Half,
    /// logrotate with `create`.
    Rename,
    /// The same with a date in the name instead of a number.
    RenameByDate,
    /// logrotate with `copytruncate`.
    CopyTruncate,
    /// Somebody empties the log: what no run has kept is lost.
    Truncate,
    /// A worker that has not reopened its log.
    WriteLate,
    /// gzip or zstd, on the latest generation that nobody writes to any more.
    Compress(Packer),
    /// Somebody makes a copy.
    Copy,
    Look,
    /// A run that is killed before it stores anything.
    LookAndDie,
}

#[derive(Debug, Clone, Copy)]
enum Packer {
    Gzip,
    Zstd,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1_u8..40).prop_map(Step::Write),
        1 => Just(Step::Half),
        2 => Just(Step::Rename),
        1 => Just(Step::RenameByDate),
        2 => Just(Step::CopyTruncate),
        1 => Just(Step::Truncate),
        1 => Just(Step::WriteLate),
        2 => Just(Step::Compress(Packer::Gzip)),
        1 => Just(Step::Compress(Packer::Zstd)),
        1 => Just(Step::Copy),
        5 => Just(Step::Look),
        1 => Just(Step::LookAndDie),
    ];
    prop::collection::vec(step, 1..40)
}

struct World {
    folder: tempfile::TempDir,
    clock: Clock,
    plan: Plan,
    lines: u64,
    /// How many of them were lost, and how many would be if the log were emptied now.
    lost: u64,
    unkept: u64,
    /// Whether every line has a number of its own.
    numbered: bool,
    half: Option<String>,
    rotations: u32,
    /// The generation that a worker may still write to, and for how many looks.
    late: Option<(PathBuf, u8)>,
}

impl World {
    fn new(numbered: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::new(TimeZone::UTC, Timestamp::now());
        let counted: CauseSet = [Cause::BindInUse].into_iter().collect();
        let plan = Plan {
            files: vec![folder.path().join("error.log")],
            dialect: None,
            counted,
            only: false,
            window: Window {
                from: clock.now() - 600,
                to: clock.now(),
                moves: true,
            },
            thresholds: Thresholds::new((None, None), (None, None)),
            also: Vec::new(),
            by: Vec::new(),
            correlate: Vec::new(),
            journal_unit: None,
            zone: None,
            state_file: Some(folder.path().join("state")),
        };
        let world = Self {
            folder,
            clock,
            plan,
            lines: 0,
            lost: 0,
            unkept: 0,
            numbered,
            half: None,
            rotations: 0,
            late: None,
        };
        File::create(world.log()).unwrap();
        world
    }

    fn log(&self) -> PathBuf {
        self.plan.files[0].clone()
    }

    fn line(&mut self) -> String {
        self.lines += 1;
        let time = self.clock.second(self.clock.now() - 60);
        let time = time.replace('-', "/").replace('T', " ");
        format!(
            "{time} [crit] 7#7: *{} bind(0.0.0.0) failed (98: x) while connecting to upstream, client: 192.0.2.1, server: a\n",
            if self.numbered { self.lines } else { 1 }
        )
    }

    fn append(&self, text: &str) {
        let mut file = OpenOptions::new().append(true).open(self.log()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn end_half(&mut self) {
        if let Some(rest) = self.half.take() {
            self.append(&rest);
        }
    }

    /// What was in the log is now in an earlier generation.
    fn begin_log(&mut self) {
        File::create(self.log()).unwrap();
        self.unkept = 0;
    }

    /// Makes room for `error.log.1`, and says where the log is to go.
    fn shift(&mut self) -> PathBuf {
        self.end_half();
        self.late = None;
        let name = |n: u32| self.folder.path().join(format!("error.log.{n}"));
        let packed = |n| PathBuf::from(format!("{}.gz", name(n).display()));
        let zstd = |n| PathBuf::from(format!("{}.zst", name(n).display()));
        for n in (1..50).rev() {
            for name in [&name as &dyn Fn(u32) -> PathBuf, &packed, &zstd] {
                if name(n).exists() {
                    std::fs::rename(name(n), name(n + 1)).unwrap();
                }
            }
        }
        name(1)
    }

    fn rename(&mut self, to: PathBuf) {
        std::fs::rename(self.log(), &to).unwrap();
        self.begin_log();
        self.late = Some((to, 2));
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Write(number) => {
                self.end_half();
                let text: String = (0..number).map(|_| self.line()).collect();
                self.append(&text);
                self.unkept += u64::from(number);
            }
            Step::Half => {
                self.end_half();
                let line = self.line();
                let (half, rest) = line.split_at(40);
                self.append(half);
                self.unkept += 1;
                self.half = Some(rest.to_owned());
            }
            Step::Rename => {
                let to = self.shift();
                self.rename(to);
            }
            Step::RenameByDate => {
                self.end_half();
                self.rotations += 1;
                let name = format!("error-202611{:04}.log", self.rotations);
                self.rename(self.folder.path().join(name));
            }
            // What was emptied and filled with the same bytes again cannot be told from what only grew, nor one
            // compressed file from another that begins with the same bytes.
            Step::CopyTruncate | Step::Truncate | Step::Compress(_) if !self.numbered => {}
            Step::CopyTruncate => {
                let to = self.shift();
                std::fs::copy(self.log(), to).unwrap();
                self.begin_log();
            }
            Step::Truncate => {
                self.end_half();
                self.lost += self.unkept;
                self.begin_log();
            }
            Step::WriteLate => {
                if let Some((path, 1..)) = self.late.clone() {
                    let line = self.line();
                    let mut file = OpenOptions::new().append(true).open(path).unwrap();
                    file.write_all(line.as_bytes()).unwrap();
                }
            }
            Step::Compress(packer) => {
                let late = self.late.as_ref().filter(|(_, looks)| *looks > 0);
                let name = |n: u32| self.folder.path().join(format!("error.log.{n}"));
                let free =
                    |path: &PathBuf| path.exists() && late.is_none_or(|(late, _)| late != path);
                if let Some(path) = (1..50).map(name).find(free) {
                    compress(&path, packer);
                }
            }
            Step::Copy => {
                std::fs::copy(self.log(), self.folder.path().join("error.log.bak")).unwrap();
            }
            Step::Look => {
                self.look(true);
                // Half a line was left for the next run.
                self.unkept = u64::from(self.half.is_some());
                if let Some((_, looks)) = &mut self.late {
                    *looks = looks.saturating_sub(1);
                }
            }
            Step::LookAndDie => self.look(false),
        }
    }

    fn look(&self, keep: bool) {
        let (logs, mut memory) = look(&self.plan, &self.clock, &|| false).unwrap();
        let window = self.plan.window;
        let summary = memory
            .tally
            .summary(window.from, window.to, self.plan.counted);
        let whole = self.lines - self.lost - u64::from(self.half.is_some());
        assert_eq!(summary.count, whole);
        if self.numbered {
            assert_eq!(summary.connections, whole);
        }
        assert_eq!((summary.suspect, summary.unparsed), (0, 0));
        if keep && is_worth_keeping(&self.plan, &logs, memory.is_new) {
            memory.keep();
        }
    }
}

/// As they do it: the time of the file stays.
fn compress(path: &Path, packer: Packer) {
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    let text = std::fs::read(path).unwrap();
    let create = |ending| File::create(format!("{}.{ending}", path.display())).unwrap();
    let file = match packer {
        Packer::Gzip => {
            let mut encoder = GzEncoder::new(create("gz"), Compression::fast());
            encoder.write_all(&text).unwrap();
            encoder.finish().unwrap()
        }
        Packer::Zstd => {
            let mut file = create("zst");
            let frame = compress_to_vec(&text[..], CompressionLevel::Fastest);
            file.write_all(&frame).unwrap();
            file
        }
    };
    file.set_modified(modified).unwrap();
    std::fs::remove_file(path).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_line_counts_once_whatever_happens_to_the_log(steps in steps(), numbered: bool) {
        let mut world = World::new(numbered);
        for step in steps {
            world.take(step);
        }
        world.end_half();
        world.look(true);
        world.look(true);
    }
}

/// Found by the histories above: an empty log gives its inode away, by way of a compressed generation, to one that is
/// taken for it; and a worker goes on writing to the renamed file.
#[test]
fn an_empty_log_that_gave_its_inode_away_was_rotated() {
    let mut world = World::new(true);
    for step in [
        Step::Look,
        Step::Rename,
        Step::Rename,
        Step::Compress(Packer::Gzip),
        Step::Rename,
        Step::Write(1),
        Step::Look,
        Step::WriteLate,
        Step::WriteLate,
    ] {
        world.take(step);
    }
    world.look(true);
}
