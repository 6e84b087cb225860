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
    let way = &plan.paths[path];
    let Some(led) = from.redirected(&location, plan.on_redirect, way.is_pinned()) else {
        let words = format!("Could not parse redirect location - {line} - {location}");
        return last(State::Unknown, words);
    };
    let next = way.keep(led.next);
    let (told, loops) = if way.is_pinned() {
        (&next, next == *from)
    } else {
        (&led.named, is_here(&led.named, from))
    };
    let curl = plan.on_redirect == OnRedirect::Curl;
    if redirects > plan.max_redirects && curl {
        let words = format!("Maximum ({}) redirects followed", plan.max_redirects);
        return last(State::Critical, words);
    }
    if redirects > plan.max_redirects {
        let words = format!(
            "maximum redirection depth {} exceeded - {}",
            plan.max_redirects,
            told.url()
        );
        return last(State::Warning, words);
    }
    if loops && !curl {
        let words = format!("redirection creates an infinite loop - {}", told.url());
        return last(State::Critical, words);
    }
    Ok(next)
}

/// Whether a redirect names where it comes from. As with `check_http`, that is not so where the address there is another one
/// than the name: such a redirect may come to an end.
fn is_here(named: &Target, from: &Target) -> bool {
    named.https == from.https
        && named.address == from.address
        && named.port == from.port
        && named.host == from.host
        && named.path == from.path
}
