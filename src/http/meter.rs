//! Counts and times requests, by route template: what a client sends never becomes a label.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use actix_web::http::Method;
use metrics::{Counter, Histogram};

use crate::telemetry::metrics as names;

/// Where the answers of one method and status are counted.
struct Answers {
    method: &'static str,
    status: u16,
    count: Counter,
    durations: Histogram,
}

thread_local! {
    /// By route. Found in the recorder once for each thread: to look there costs more than to
    /// count.
    static ROUTES: RefCell<HashMap<String, Vec<Answers>>> = RefCell::default();
}

/// Notes an answer. `route` is the template that matched, if any did; of a request whose
/// handler panicked nothing is left but the status and the time.
pub(super) fn note(method: Option<&Method>, route: Option<&str>, status: u16, took: Duration) {
    let method = method.map_or("other", label);
    let route = route.unwrap_or("none");
    ROUTES.with_borrow_mut(|routes| {
        let known = match routes.get_mut(route) {
            Some(known) => known,
            None => routes.entry(route.to_owned()).or_default(),
        };
        let is_it = |one: &Answers| one.method == method && one.status == status;
        let at = known.iter().position(is_it).unwrap_or_else(|| {
            known.push(answers(method, route, status));
            known.len() - 1
        });
        known[at].count.increment(1);
        known[at].durations.record(took);
    });
}

fn answers(method: &'static str, route: &str, status: u16) -> Answers {
    let route = route.to_owned();
    Answers {
        method,
        status,
        count: metrics::counter!(names::HTTP_REQUESTS,
            "method" => method, "route" => route.clone(), "status" => status.to_string()),
        durations: metrics::histogram!(names::HTTP_DURATION, "method" => method, "route" => route),
    }
}

/// Clients may make up methods.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
