//! The thread that sends: one result after the other, in order, until Icinga has it.
//!
//! Icinga throws away, and up to 2.13 without a word, what began earlier than the result that it has. So each result
//! begins later than the one before; and where a check of Icinga's own came in between (it looks after a service that
//! has been silent for too long), what waited is sent as if it began right after that.

mod settle;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::runtime::{self, Runtime};

use super::Shared;
use super::client::{Answer, Client, Trouble};
use super::passive::{Name, Passive};
use super::queue::{is_damage, is_shortage};

/// The wait after the first failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait after one that may pass by itself.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The wait after one that lasts until somebody changes something.
const LASTING_WAIT: Duration = Duration::from_mins(1);

/// How often to look for results of other processes, and for the end of the one that sends.
const LOOK: Duration = Duration::from_secs(2);

/// How many results are remembered that were sent and cannot be removed.
const DONE_LIMIT: usize = 10_000;

/// The sending side.
pub struct Sender {
    shared: Arc<Shared>,
    client: Client,
    /// A result that may have arrived.
    doubt: Option<Name>,
    /// The queue could not be listed when it was to be looked up which result that is: it may be any.
    unlisted: bool,
    /// Sent, but they could not be removed.
    done: BTreeSet<Name>,
    /// By when Icinga's last result had begun, as far as is known, and since when.
    last: Option<(i64, Instant)>,
    /// When the last one that was sent was over, and when it began.
    ours: (i64, i64),
    /// Icinga does not let this user ask.
    mute: bool,
}

impl Sender {
    /// One that has not sent anything.
    pub fn new(shared: Arc<Shared>, client: Client) -> Self {
        let mut sender = Self {
            shared,
            client,
            doubt: None,
            unlisted: false,
            done: BTreeSet::new(),
            last: None,
            ours: (0, 0),
            mute: false,
        };
        sender.doubt_the_first();
        sender
    }

    /// Whoever sent before may have been killed right behind sending the first result.
    fn doubt_the_first(&mut self) -> Vec<Name> {
        let names = self.shared.queue.names();
        self.unlisted = self.shared.queue.unlisted().is_some();
        self.doubt = names.first().filter(|_| !self.unlisted).cloned();
        names
    }

    /// What waits, as far as it can be listed; an error where nothing can.
    fn waiting(&mut self) -> Result<Vec<Name>, Trouble> {
        let mut names = if self.unlisted {
            self.doubt_the_first()
        } else {
            self.shared.queue.names()
        };
        names.retain(|name| !self.done.contains(name));
        let queue = &self.shared.queue;
        match queue.unlisted().filter(|_| names.is_empty()) {
            Some(why) => Err(own_trouble(format!("cannot read {}: {why}", queue.place()))),
            None => Ok(names),
        }
    }

    /// Sends what there is and what comes, until the process ends.
    pub fn run(mut self) {
        let runtime = match runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(2)
            .build()
        {
            Ok(runtime) => runtime,
            Err(error) => {
                let text = format!("cannot start the executor: {error}");
                return self.fails(own_trouble(text));
            }
        };
        let mut failures = 0;
        let mut had_trouble = false;
        loop {
            let arrived = self.shared.status().arrived;
            let looked = match self.holds() {
                Ok(true) => self.waiting(),
                Ok(false) => {
                    self.wait(LOOK);
                    continue;
                }
                Err(trouble) => Err(trouble),
            };
            let names = match looked {
                Ok(names) => names,
                Err(trouble) => {
                    had_trouble = true;
                    self.fails(trouble);
                    self.wait(LOOK);
                    continue;
                }
            };
            if names.is_empty() {
                let mut status = self.shared.status();
                if status.arrived == arrived && !status.idle {
                    status.rests(std::mem::take(&mut had_trouble), &self.shared.target);
                    self.shared.changed.notify_all();
                }
                drop(status);
                self.wait_for_more(arrived);
                continue;
            }
            let sent = names
                .iter()
                .try_for_each(|name| self.deliver(&runtime, name));
            match sent {
                Ok(()) => failures = 0,
                Err(trouble) => {
                    had_trouble = true;
                    let wait = wait_after(&trouble, failures);
                    failures += 1;
                    self.fails(trouble);
                    self.wait(wait);
                }
            }
        }
    }

    /// Whether this process is the one that sends. Where no lock can be had it is; a lack of descriptors or memory is an
    /// error, since it says nothing about others.
    fn holds(&mut self) -> Result<bool, Trouble> {
        let held = self.shared.queue.hold();
        if let Err(error) = &held
            && is_shortage(error)
        {
            let place = self.shared.queue.place();
            return Err(own_trouble(format!("cannot lock {place}: {error}")));
        }
        let elsewhere = matches!(held, Ok(false));
        let mut status = self.shared.status();
        let was = std::mem::replace(&mut status.elsewhere, elsewhere);
        if elsewhere && !was {
            status.tell(format!(
                "another process sends what is in {}",
                self.shared.queue.place()
            ));
        }
        drop(status);
        if was && !elsewhere {
            self.doubt_the_first();
        }
        if elsewhere {
            self.shared.changed.notify_all();
        }
        Ok(!elsewhere)
    }

    /// Sends one result and takes it out of the queue.
    fn deliver(&mut self, runtime: &Runtime, name: &Name) -> Result<(), Trouble> {
        let mut result = match self.shared.queue.read(name) {
            Ok(Some(result)) => result,
            Ok(None) => return Ok(()),
            Err(error) if !is_damage(&error) => {
                return Err(own_trouble(format!("cannot read a result: {error}")));
            }
            Err(error) => {
                let place = self.shared.queue.place();
                let mut status = self.shared.status();
                status.tell(format!(
                    "a result is lost: its file in {place} is damaged: {error}"
                ));
                status.dropped(1);
                drop(status);
                self.remove(name);
                return Ok(());
            }
        };
        if self.settle(runtime, name, &result)? {
            self.taken(name, &result);
            return Ok(());
        }
        for _ in 0..2 {
            self.begin_later(name, &mut result);
            let note = self.shared.status().note();
            match runtime.block_on(self.client.send(&result, &note)) {
                Ok(Answer::Taken) => {
                    if self.confirm(runtime, name, &result)? {
                        if !note.is_empty() {
                            self.shared.status().untold = 0;
                        }
                        self.taken(name, &result);
                        return Ok(());
                    }
                }
                Ok(Answer::TooOld) => {
                    // Without asking there is only a guess: that it began before now.
                    let began = match self.ask(runtime)? {
                        Some(last) => self.learn(last, &result),
                        None => Timestamp::now().as_microsecond(),
                    };
                    self.last = Some((began, Instant::now()));
                }
                Err(trouble) => {
                    if trouble.ambiguous {
                        self.doubt = Some(name.clone());
                    }
                    return Err(trouble);
                }
            }
        }
        Err(own_trouble(
            "Icinga keeps having a newer result of the service".to_owned(),
        ))
    }

    fn taken(&mut self, name: &Name, result: &Passive) {
        let began = self.last.map_or(0, |(began, _)| began);
        self.last = Some((began.max(result.start), Instant::now()));
        self.ours = (result.end, result.start);
        if self.doubt.as_ref() == Some(name) {
            self.doubt = None;
        }
        self.remove(name);
        let mut status = self.shared.status();
        status.takes();
        drop(status);
        self.shared.changed.notify_all();
    }

    fn remove(&mut self, name: &Name) {
        if let Err(error) = self.shared.queue.remove(name) {
            if self.done.len() < DONE_LIMIT {
                self.done.insert(name.clone());
            }
            let place = self.shared.queue.place();
            let mut status = self.shared.status();
            status.tell(format!("cannot remove what was sent from {place}: {error}"));
        }
    }

    fn fails(&self, trouble: Trouble) {
        self.shared.status().fails(trouble, &self.shared.target);
        self.shared.changed.notify_all();
    }

    /// Waits, but not once the process is about to end.
    fn wait(&self, time: Duration) {
        let status = self.shared.status();
        if status.hurry {
            drop(status);
            std::thread::sleep(time.min(Duration::from_millis(500)));
            return;
        }
        let waited = self
            .shared
            .changed
            .wait_timeout_while(status, time, |status| !status.hurry);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until a result comes in, or until it is time to look for those of other processes.
    fn wait_for_more(&self, arrived: u64) {
        let waited = self
            .shared
            .changed
            .wait_timeout_while(self.shared.status(), LOOK, |status| {
                status.arrived == arrived
            });
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Trouble of this host, which may pass.
fn own_trouble(text: String) -> Trouble {
    Trouble {
        text,
        advice: String::new(),
        lasting: false,
        ambiguous: false,
        code: None,
    }
}

/// Longer after each failure, and between a half and all of it by lot, so that many do not come at once.
fn wait_after(trouble: &Trouble, failures: u32) -> Duration {
    let whole = if trouble.lasting {
        LASTING_WAIT
    } else {
        LONGEST_WAIT.min(FIRST_WAIT.saturating_mul(1 << failures.min(10)))
    };
    let lot = RandomState::new().build_hasher().finish() % 1000;
    whole / 2 + (whole / 2).mul_f64(lot as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::submit::{Plan, Queue, Status};

    fn passive() -> Passive {
        Passive {
            state: 0,
            output: String::new(),
            perfdata: Vec::new(),
            start: 1,
            end: 1,
        }
    }

    fn sender(queue: Queue) -> Sender {
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
        let plan = Plan {
            url: "https://icinga.test/".parse().unwrap(),
            address: None,
            service: String::new(),
            user: None,
            tls,
            ttl: None,
            source: String::new(),
            queue: std::path::PathBuf::new(),
            queue_given: true,
            limit: 10,
        };
        let shared = Shared {
            name: "HTTP",
            verbosity: 0,
            target: String::new(),
            queue,
            status: std::sync::Mutex::new(Status::default()),
            changed: std::sync::Condvar::new(),
        };
        Sender::new(Arc::new(shared), Client::new(&plan).unwrap())
    }

    #[test]
    fn the_first_of_a_queue_stays_in_doubt_until_it_can_be_listed() {
        let root = tempfile::tempdir().unwrap();
        let (place, aside) = (root.path().join("q"), root.path().join("aside"));
        Queue::open(place.clone(), 10).unwrap().push(passive());
        let queue = Queue::open(place.clone(), 10).unwrap();
        std::fs::rename(&place, &aside).unwrap();
        std::fs::write(&place, "").unwrap();
        let mut sender = sender(queue);
        assert!(sender.waiting().is_err());
        std::fs::remove_file(&place).unwrap();
        std::fs::rename(&aside, &place).unwrap();
        let names = sender.waiting().unwrap();
        assert_eq!((names.len(), sender.doubt.as_ref()), (1, names.first()));
        // What comes in later is in no doubt.
        sender.doubt = None;
        assert!(sender.waiting().is_ok() && sender.doubt.is_none());
    }

    #[test]
    fn waits_grow_to_a_limit_and_differ() {
        let trouble = own_trouble(String::new());
        for (failures, longest) in [(0, 1), (1, 2), (3, 8), (5, 30), (4_000_000_000, 30)] {
            let longest = Duration::from_secs(longest);
            let waits: BTreeSet<_> = (0..20).map(|_| wait_after(&trouble, failures)).collect();
            assert!(waits.len() > 1);
            assert!(
                waits
                    .iter()
                    .all(|wait| (longest / 2..=longest).contains(wait))
            );
        }
    }
}
