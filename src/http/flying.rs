//! The probes that are under way. They are no tasks of the executor: to wake a task and to hand over its result costs each
//! probe a system call.
//!
//! So they would share what the executor lets one task do at a turn (tokio's budget), and once some of them had used it up, a
//! connection that is over would look to the others like one on which nothing has come. They are polled without it:
//! `wire` sees to it that each of them waits now and then.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::ready;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::coop::{Unconstrained, unconstrained};

/// Futures of one kind, as many at a time as they say.
pub enum Flying<F> {
    /// One at a time. A set of one would wake itself once more for each time that it waits.
    One(Option<Pin<Box<Unconstrained<F>>>>),
    /// Any number.
    Many(FuturesUnordered<Unconstrained<F>>),
}

impl<F: Future> Flying<F> {
    /// Room for so many.
    pub fn new(most: usize) -> Self {
        match most {
            1 => Self::One(None),
            _ => Self::Many(FuturesUnordered::new()),
        }
    }

    /// Adds one. Where there is room for one, it takes the place of the last one.
    pub fn push(&mut self, probe: F) {
        let probe = unconstrained(probe);
        match self {
            Self::One(alone) => *alone = Some(Box::pin(probe)),
            Self::Many(all) => all.push(probe),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::One(alone) => usize::from(alone.is_some()),
            Self::Many(all) => all.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the next one to end comes to; `None` without any.
    pub async fn next(&mut self) -> Option<F::Output> {
        match self {
            Self::One(alone) => {
                poll_fn(|cx| {
                    let Some(probe) = alone else {
                        return None.into();
                    };
                    let result = ready!(probe.as_mut().poll(cx));
                    *alone = None;
                    Some(result).into()
                })
                .await
            }
            Self::Many(all) => all.next().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// What is there without waiting.
    fn now<F: Future>(flying: &mut Flying<F>) -> Poll<Option<F::Output>> {
        pin!(flying.next()).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn each_that_ends_is_told_of_once() {
        for most in [1, 2] {
            let mut flying = Flying::new(most);
            assert_eq!(now(&mut flying), Poll::Ready(None));
            flying.push(ready(7));
            assert_eq!(flying.len(), 1);
            assert_eq!(now(&mut flying), Poll::Ready(Some(7)));
            assert!(flying.is_empty());
        }
        let mut flying = Flying::new(1);
        flying.push(pending::<()>());
        assert_eq!(now(&mut flying), Poll::Pending);
        assert_eq!(flying.len(), 1);
    }
}
