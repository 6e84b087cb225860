//! What is known of submitting, and its words.

use super::client::Trouble;
use crate::plugin::{Finding, Report, State};

/// How many lines of news wait to be told.
const NEWS_LIMIT: usize = 20;

/// The cause of a finding: results wait.
const NOT_SUBMITTED: &str = "not-submitted";
/// Results are lost.
const DROPPED: &str = "results-dropped";
/// Results may be there twice.
const DOUBTFUL: &str = "results-doubtful";
/// The queue is not on disk.
const UNSAVED: &str = "queue-not-on-disk";

/// How the line begins that says that all is well.
const SUBMITTED: &str = "submitted to ";

/// What is known of submitting.
#[derive(Debug, Default)]
pub struct Status {
    /// How many results came in.
    pub arrived: u64,
    /// When the last of them began and was over, in microseconds since 1970.
    pub latest: (i64, i64),
    /// Nothing waits.
    pub idle: bool,
    /// The process is about to end.
    pub hurry: bool,
    /// Another process sends what is in the queue.
    pub elsewhere: bool,
    /// Why the oldest result was not taken.
    pub trouble: Option<Trouble>,
    /// Why results are kept in memory alone.
    pub unsaved: Option<String>,
    /// How many Icinga took.
    pub taken: u64,
    /// How many it took since there was trouble.
    pub caught_up: u64,
    /// How many were dropped.
    pub dropped: u64,
    /// How many of them Icinga has not been told of.
    pub untold: u64,
    /// How many may be in Icinga twice.
    pub doubtful: u64,
    /// What the loop has not told yet.
    pub news: Vec<String>,
}

impl Status {
    /// Whether there is nothing to wait for.
    pub fn is_settled(&self) -> bool {
        let lasting = self.trouble.as_ref().is_some_and(|trouble| trouble.lasting);
        self.idle || lasting || self.elsewhere
    }

    /// Notes that a result is in the queue. Not before it is: whoever sends may just have found the queue empty.
    pub fn arrives(&mut self) {
        self.arrived += 1;
        self.idle = false;
    }

    /// Notes that results had to go.
    pub fn dropped(&mut self, count: usize) {
        if count > 0 && self.untold == 0 {
            self.tell(
                "the queue of results is full: the oldest ones are dropped, OK ones first"
                    .to_owned(),
            );
        }
        self.dropped += count as u64;
        self.untold += count as u64;
    }

    /// Notes why a result was not taken.
    pub fn fails(&mut self, trouble: Trouble, target: &str) {
        if self.trouble.as_ref().map(|old| &old.text) != Some(&trouble.text) {
            let advice = match trouble.advice.as_str() {
                "" => String::new(),
                advice => format!(" - {advice}"),
            };
            self.tell(format!(
                "not submitted to {target}: {}{advice}",
                trouble.text
            ));
        }
        self.caught_up = 0;
        self.trouble = Some(trouble);
    }

    /// Notes that a result was taken.
    pub fn takes(&mut self) {
        self.taken += 1;
        self.caught_up += 1;
        if self.trouble.take().is_some() {
            self.caught_up = 1;
        }
    }

    /// Notes that nothing waits any more.
    pub fn rests(&mut self, had_trouble: bool, target: &str) {
        self.idle = true;
        self.trouble = None;
        if had_trouble {
            self.tell(match self.caught_up {
                0 => format!("nothing waits for {target} any more"),
                count => format!("submitted to {target} again: {}", results(count)),
            });
        }
    }

    /// Adds a line of news.
    pub fn tell(&mut self, line: String) {
        if self.news.len() < NEWS_LIMIT {
            self.news.push(line);
        }
    }

    /// What goes below the text of the next result.
    pub fn note(&self) -> String {
        match self.untold {
            0 => String::new(),
            count => format!(
                "\n{count} results before this one were dropped: they could not be sent, and the queue was full"
            ),
        }
    }

    /// Says it in a report, in place of what was said there before.
    #[cold]
    pub fn annotate(&self, report: &mut Report, target: &str, waiting: usize, place: &str) {
        report.notices.clear();
        report
            .lines
            .retain(|(_, line)| !line.starts_with(SUBMITTED));
        let mut found = |cause, text: String, advice: &str| {
            report.notices.push(Finding {
                cause,
                state: State::Unknown,
                text,
                advice: advice.to_owned(),
            });
        };
        if let Some(trouble) = &self.trouble {
            let text = format!(
                "not submitted to {target}: {} ({} in {place})",
                trouble.text,
                wait(waiting)
            );
            found(NOT_SUBMITTED, text, &trouble.advice);
        } else if self.elsewhere {
            let text = format!(
                "another process sends what is in {place} ({})",
                wait(waiting)
            );
            found(NOT_SUBMITTED, text, "");
        } else if waiting > 0 && self.hurry {
            let text = format!(
                "not submitted to {target} yet: {} in {place}",
                wait(waiting)
            );
            found(NOT_SUBMITTED, text, "");
        }
        if self.dropped > 0 {
            let text = format!(
                "{} results were dropped: the queue was full or damaged",
                self.dropped
            );
            found(DROPPED, text, "make --submit-queue-limit larger");
        }
        if self.doubtful > 0 {
            let text = format!(
                "{} results may be in Icinga twice: it could not be asked after a connection broke",
                self.doubtful
            );
            found(
                DOUBTFUL,
                text,
                "give the ApiUser the permission objects/query/Service for this service",
            );
        }
        if let Some(why) = &self.unsaved {
            let text = format!("results that wait are kept in memory alone: {why}");
            found(
                UNSAVED,
                text,
                "give a folder that this user may write with --submit-queue",
            );
        }
        if self.trouble.is_none() && self.taken > 0 {
            report.line(1, format!("{SUBMITTED}{target}: {}", results(self.taken)));
        }
    }
}

fn results(count: u64) -> String {
    format!("{count} result{}", if count == 1 { "" } else { "s" })
}

fn wait(count: usize) -> String {
    format!(
        "{} wait{}",
        results(count as u64),
        if count == 1 { "s" } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_over_when_nothing_waits() {
        let mut status = Status::default();
        let trouble = Trouble {
            text: "cannot read a result".to_owned(),
            advice: String::new(),
            lasting: false,
            ambiguous: false,
            code: None,
        };
        status.arrives();
        status.fails(trouble, "icinga");
        // Another process has taken it out.
        status.rests(true, "icinga");
        let mut report = Report::new(State::Ok, "");
        status.annotate(&mut report, "icinga", 0, "/var");
        assert!(report.notices.is_empty(), "{:?}", report.notices);
        assert_eq!(status.news[1..], ["nothing waits for icinga any more"]);
    }

    #[test]
    fn what_arrives_behind_a_look_into_the_empty_queue_is_waited_for() {
        let mut status = Status::default();
        status.rests(false, "icinga");
        assert!(status.is_settled());
        status.arrives();
        assert!(!status.is_settled());
        status.takes();
        status.rests(false, "icinga");
        assert!(status.is_settled());
    }
}
