//! Which probes are kept as evidence, while the loop runs: failing ones, each with the last good one before it or the
//! first behind it. Entries are written beside the loop, so that no probe waits for a disk.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout_at};

use super::capture::HANDOVER;
use super::entry::{Frame, Side, entry};
use super::flows::Sniffer;
use super::folder::Folder;
use super::record::Recorder;
use crate::http::plan::Plan;
use crate::http::probe::Probe;
use crate::http::summary::badness;
use crate::plugin::Run;

/// How long the packets of a probe that is over may take: the end of the connection, and the kernel's handing over.
const PACKETS: Duration = Duration::from_millis(30).saturating_add(HANDOVER);

/// How long a failing probe waits for a good one behind it, before it is written without.
const GOOD: Duration = Duration::from_secs(5);

/// How often the end looks for signals, which leave less time.
const SLICE: Duration = Duration::from_millis(100);

/// The most failing probes that wait to be written.
const WAITING: usize = 50;

/// What the rounds of a loop hand on: the last good probes, and the socket for packets, which takes the kernel some
/// hundredths of a second to close.
static CARRIED: Mutex<Option<Carried>> = Mutex::new(None);

#[derive(Debug, Default)]
struct Carried {
    paths: Vec<String>,
    goods: Vec<Option<Arc<Side>>>,
    sniffer: Option<Arc<Sniffer>>,
}

impl Carried {
    /// The good probe of a path, which may have another place in the next round.
    fn good(&self, path: &str, at: usize) -> Option<Arc<Side>> {
        let before = self.paths.iter().position(|other| other == path)?;
        let side = self.goods.get(before)?.as_ref()?;
        if before == at {
            return Some(Arc::clone(side));
        }
        let probe = Probe {
            path: at,
            ..side.probe.clone()
        };
        let recording = side.recording.clone();
        Some(Arc::new(Side { probe, recording }))
    }
}

/// What became of a run's evidence.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The numbers of probes and where their entries are.
    pub kept: Vec<(u64, PathBuf)>,
    /// What there is to say, each with the number of `-v` from which on.
    pub notes: Vec<(u8, String)>,
    /// The good probe that stands beside the worst failing one, where probes are compared.
    pub beside: Option<Probe>,
}

impl Outcome {
    /// The entry of a probe.
    pub fn of(&self, number: u64) -> Option<&PathBuf> {
        let mut all = self.kept.iter();
        all.find(|(other, _)| *other == number)
            .map(|(_, path)| path)
    }

    /// The entry of the failing probe that began last.
    pub fn newest(&self) -> Option<&PathBuf> {
        self.kept
            .iter()
            .max_by_key(|(number, _)| *number)
            .map(|(_, path)| path)
    }
}

/// Keeps evidence during one run.
#[derive(Debug)]
pub struct Keeper {
    compares: bool,
    frame: Arc<Frame>,
    folder: Option<Arc<Folder>>,
    recorder: Option<Recorder>,
    /// The same socket, as the executor waits for it.
    packets: Option<UnixStream>,
    /// The last good probe of each path.
    goods: Vec<Option<Arc<Side>>>,
    /// Failing probes whose packets or good ones are still to come.
    waiting: VecDeque<Case>,
    /// Those to be written.
    ready: Vec<Case>,
    writing: Option<JoinHandle<Written>>,
    /// The worst failing probe so far, and the good one beside it.
    worst: Option<(Probe, Option<Arc<Side>>)>,
    failed: u64,
    /// How many are being written.
    in_writing: usize,
    /// How many could not be.
    unwritten: u64,
    too_many: u64,
    trouble: Option<String>,
    outcome: Outcome,
}

#[derive(Debug)]
struct Case {
    failed: Side,
    good: Option<Arc<Side>>,
    over: Instant,
    /// Whether no good one can come any more.
    last: bool,
}

impl Case {
    /// When it can be written.
    fn due(&self) -> Instant {
        let known = self.good.is_some() || self.last;
        self.over + if known { PACKETS } else { GOOD }
    }
}

#[derive(Debug, Default)]
struct Written {
    kept: Vec<(u64, String)>,
    removed: Vec<String>,
    trouble: Option<String>,
}

impl Keeper {
    /// For one run. What stands in the way of evidence stands in the way of nothing else.
    pub fn begin(plan: &Plan, run: u64) -> Self {
        let evidence = &plan.evidence;
        let paths: Vec<_> = plan.paths.iter().map(|path| path.name.clone()).collect();
        let mut trouble = None;
        let folder = evidence.folder.as_ref().and_then(|path| {
            Folder::open(path, evidence.keep)
                .map_err(|error| trouble = Some(format!("{error:#}")))
                .ok()
        });
        if let Some(folder) = &folder {
            folder.expire(Timestamp::now());
        }
        let carried = CARRIED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .unwrap_or_default();
        let goods = paths.iter().enumerate();
        let goods = goods.map(|(at, name)| carried.good(name, at)).collect();
        let mut no_packets = None;
        let sniffer = folder.as_ref().and_then(|_| {
            carried.sniffer.or_else(|| {
                Sniffer::open()
                    .map_err(|error| no_packets = Some(why_no_packets(&error)))
                    .ok()
            })
        });
        Self {
            compares: evidence.compares(),
            recorder: folder.as_ref().map(|_| Recorder { sniffer }),
            folder: folder.map(Arc::new),
            frame: Arc::new(Frame {
                paths,
                run,
                mask: evidence.mask.clone(),
                no_packets,
            }),
            packets: None,
            goods,
            waiting: VecDeque::new(),
            ready: Vec::new(),
            writing: None,
            worst: None,
            failed: 0,
            in_writing: 0,
            unwritten: 0,
            too_many: 0,
            trouble,
            outcome: Outcome::default(),
        }
    }

    /// What makes records of exchanges.
    pub fn recorder(&self) -> Option<Recorder> {
        self.recorder.clone()
    }

    fn sniffer(&self) -> Option<Arc<Sniffer>> {
        self.recorder.as_ref()?.sniffer.clone()
    }

    /// Waits for packets from now on, on the executor that it is called on.
    pub fn listen(&mut self) {
        // It is never read from: what kind of socket it is does not matter for that.
        self.packets = self.sniffer().and_then(|sniffer| {
            let socket = sniffer.socket().ok()?;
            UnixStream::from_std(socket.into()).ok()
        });
    }

    /// Whether [`Self::progress`] has anything to wait for.
    pub fn is_busy(&self) -> bool {
        self.packets.is_some() || !self.waiting.is_empty() || self.writing.is_some()
    }

    /// Takes a probe that is over.
    pub fn take(&mut self, probe: &mut Probe) {
        let recording = probe.recording.take();
        if !self.compares {
            return;
        }
        if probe.kind.is_none() {
            let side = Arc::new(Side {
                probe: probe.clone(),
                recording,
            });
            for case in self.waiting.iter_mut().filter(|case| case.good.is_none()) {
                case.good = Some(Arc::clone(&side));
            }
            if let Some((_, good @ None)) = &mut self.worst {
                *good = Some(Arc::clone(&side));
            }
            self.goods[probe.path] = Some(side);
            return;
        }
        self.failed += 1;
        // Rather one of another path than none.
        let own = self.goods[probe.path].as_ref();
        let latest = || self.goods.iter().flatten().max_by_key(|side| side.probe.at);
        let good = own.or_else(latest).cloned();
        if self
            .worst
            .as_ref()
            .is_none_or(|(worst, _)| badness(probe) > badness(worst))
        {
            self.worst = Some((probe.clone(), good.clone()));
        }
        if recording.is_none() {
            self.unwritten += u64::from(self.trouble.is_some());
            return;
        }
        if self.waiting.len() == WAITING {
            self.waiting.pop_front();
            self.too_many += 1;
        }
        self.waiting.push_back(Case {
            failed: Side {
                probe: probe.clone(),
                recording,
            },
            good,
            over: Instant::now(),
            last: false,
        });
    }

    /// Waits for the next thing to do, and does it. May be dropped and called again.
    pub async fn progress(&mut self) {
        let due = self.waiting.iter().map(Case::due).min();
        let sniffer = self.sniffer();
        let Self {
            packets, writing, ..
        } = self;
        tokio::select! {
            readable = async { Some(packets.as_ref()?.readable().await) }, if packets.is_some() => {
                if let (Some(Ok(())), Some(sniffer), Some(packets)) = (readable, sniffer, packets) {
                    // What comes from here on wakes it again.
                    let _ = packets.try_io(Interest::READABLE, || {
                        Err::<(), _>(std::io::ErrorKind::WouldBlock.into())
                    });
                    sniffer.drain();
                }
            }
            written = async { Some(writing.as_mut()?.await) }, if writing.is_some() => {
                self.writing = None;
                self.note(written.and_then(Result::ok).unwrap_or_default());
            }
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {}
            else => {}
        }
        self.settle();
    }

    /// Has written what can be written.
    fn settle(&mut self) {
        let now = Instant::now();
        let (due, waiting) = self
            .waiting
            .drain(..)
            .partition::<Vec<_>, _>(|case| case.due() <= now);
        self.waiting = waiting.into();
        self.ready.extend(due);
        if self.ready.len() > WAITING {
            let beyond = self.ready.len() - WAITING;
            self.ready.drain(..beyond);
            self.too_many += beyond as u64;
        }
        if self.writing.is_none() && !self.ready.is_empty() {
            self.write();
        }
    }

    fn write(&mut self) {
        let Some(folder) = self.folder.clone() else {
            return;
        };
        let cases = std::mem::take(&mut self.ready);
        self.in_writing = cases.len();
        let frame = Arc::clone(&self.frame);
        let sniffer = self.sniffer();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let lost = sniffer.map_or(0, |sniffer| {
                sniffer.drain();
                sniffer.lost()
            });
            let numbers: Vec<_> = cases.iter().map(|case| case.failed.probe.number).collect();
            let entries = cases
                .into_iter()
                .map(|case| entry(&frame, &case.failed, case.good.as_deref(), lost));
            let mut written = Written::default();
            match folder.store(entries, Timestamp::now()) {
                Ok((made, removed)) => {
                    for (number, made) in numbers.into_iter().zip(made) {
                        match made {
                            Ok(name) => written.kept.push((number, name)),
                            Err(error) => written.trouble = Some(format!("{error:#}")),
                        }
                    }
                    written.removed = removed;
                }
                Err(error) => written.trouble = Some(format!("{error:#}")),
            }
            written
        }));
    }

    fn note(&mut self, written: Written) {
        let Some(folder) = &self.folder else { return };
        self.unwritten += self.in_writing.saturating_sub(written.kept.len()) as u64;
        self.in_writing = 0;
        let kept = written.kept.iter();
        let kept = kept.map(|(number, name)| (*number, folder.path_of(name)));
        self.outcome.kept.extend(kept);
        for name in &written.removed {
            let path = folder.path_of(name);
            self.outcome.kept.retain(|(_, kept)| *kept != path);
        }
        self.trouble = self.trouble.take().or(written.trouble);
    }

    /// Writes what is left, and says what became of it all, in time for the report.
    pub async fn finish(mut self, run: &Run) -> Outcome {
        for case in &mut self.waiting {
            case.last = true;
        }
        let mut until = run.last_moment();
        while !self.waiting.is_empty() || self.writing.is_some() {
            until = until.min(run.last_moment());
            let slice = until.min(Instant::now() + SLICE);
            let done = timeout_at(slice.into(), self.progress()).await.is_ok();
            if !done && Instant::now() >= until {
                let why = "there was no time left to write it".to_owned();
                self.trouble.get_or_insert(why);
                self.unwritten += (self.waiting.len() + self.ready.len() + self.in_writing) as u64;
                break;
            }
        }
        self.say();
        let carried = Carried {
            paths: self.frame.paths.clone(),
            goods: self.goods,
            sniffer: self.recorder.and_then(|recorder| recorder.sniffer),
        };
        let mut place = CARRIED.lock().unwrap_or_else(PoisonError::into_inner);
        *place = self.compares.then_some(carried);
        self.outcome
    }

    fn say(&mut self) {
        let notes = &mut self.outcome.notes;
        if let Some(why) = &self.trouble {
            let what = match (self.failed, self.unwritten) {
                (0, _) => "no evidence can be kept".to_owned(),
                (failed, missing) => format!("no evidence of {missing} of {failed} failed probes"),
            };
            notes.push((0, format!("--evidence: {what}: {why}")));
        } else if self.too_many > 0 {
            let many = self.too_many;
            notes.push((
                0,
                format!("--evidence: {many} failed probes came too fast to be written, the last ones are"),
            ));
        }
        if let Some(why) = &self.frame.no_packets {
            let from = u8::from(self.failed == 0);
            notes.push((from, format!("--evidence: no packets are kept: {why}")));
        }
        if let Some((_, good)) = self.worst.take() {
            self.outcome.beside = good.map(|side| side.probe.clone());
        }
    }
}

/// Why the kernel opens no packet socket, and what to do about it.
fn why_no_packets(error: &std::io::Error) -> String {
    if error.kind() != std::io::ErrorKind::PermissionDenied {
        return format!("no packet socket: {error}");
    }
    let program = std::env::current_exe();
    let program = program.map_or("check_http_retry".to_owned(), |path| {
        path.display().to_string()
    });
    format!(
        "this takes CAP_NET_RAW: setcap cap_net_raw+ep {program}, or docker run --cap-add NET_RAW; everything else is kept"
    )
}
