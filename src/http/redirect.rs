//! Where a redirect leads, or `check_http`'s words for why it leads nowhere.

use super::args::OnRedirect;
use super::checks::Judgement;
use super::plan::Plan;
use super::probe::Kind;
use super::reply::Reply;
use super::target::Target;
use crate::plugin::State;

/// Where a redirect leads. An error is that it leads nowhere.
#[cold]
pub(super) fn next(
    plan: &Plan,
    path: usize,
    from: &Target,
    reply: &Reply,
    redirects: u32,
) -> Result<Target, Judgement> {
    let last = |state, words| Err(Judgement::final_word(state, Kind::Redirect, words));
    let line = reply.status_line();
    let Some(location) = reply.header("location").filter(|text| !text.is_empty()) else {
        let words = format!("Could not find redirect location - {line}");
        return last(State::Unknown, words);
    };
    let Some(next) = from.redirected(&location, plan.on_redirect) else {
        let words = format!("Could not parse redirect location - {line} - {location}");
        return last(State::Unknown, words);
    };
    let next = plan.paths[path].keep(next);
    let curl = plan.on_redirect == OnRedirect::Curl;
    if redirects > plan.max_redirects && curl {
        let words = format!("Maximum ({}) redirects followed", plan.max_redirects);
        return last(State::Critical, words);
    }
    if redirects > plan.max_redirects {
        let words = format!(
            "maximum redirection depth {} exceeded - {}",
            plan.max_redirects,
            next.url()
        );
        return last(State::Warning, words);
    }
    if next == *from && !curl {
        let words = format!("redirection creates an infinite loop - {}", next.url());
        return last(State::Critical, words);
    }
    Ok(next)
}
