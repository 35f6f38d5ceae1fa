//! The `OpenAPI` document, put together from the routes' own.
//!
//! `openapi.json` beside this file is its committed snapshot: a change of the API shows in
//! review. `UPDATE_SNAPSHOTS=1 cargo test` writes it anew.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::json;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Spec, Ref, RefOr};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi};

use super::api::{
    self, events, orphans, problems, reconciliations, service, stats, tracks, uploads, webhooks,
};
use super::middleware::access::Access;
use super::problem::{PROBLEM_JSON, Problem};

/// The document, as it is served.
pub struct Document(pub Bytes);

#[derive(OpenApi)]
#[openapi(
    info(title = "upload-coordinator",
        description = "Presigned uploads straight to S3, with a status you can trust.\n\n\
            Errors are `application/problem+json` (RFC 9457). Every answer carries \
            `X-Request-Id`. Every path answers with and without a trailing slash, and GET \
            also as HEAD."),
    paths(
        tracks::list::handle,
        tracks::create::handle,
        tracks::get::handle,
        tracks::put::handle,
        tracks::patch::handle,
        tracks::delete::handle,
        tracks::presigned_url::handle,
        tracks::upload::handle,
        tracks::file::handle,
        uploads::list::handle,
        uploads::create::handle,
        uploads::get::handle,
        uploads::events::handle,
        uploads::delete::handle,
        uploads::presign::handle,
        uploads::confirm::handle,
        uploads::sign_parts::handle,
        uploads::list_parts::handle,
        uploads::complete::handle,
        reconciliations::list::handle,
        reconciliations::start::handle,
        reconciliations::get::handle,
        reconciliations::findings::handle,
        reconciliations::events::handle,
        reconciliations::cancel::handle,
        orphans::purge::handle,
        stats::get::handle,
        events::s3::handle,
        webhooks::list::handle,
        webhooks::redeliver::handle,
        problems::get::handle,
        service::healthz::handle,
        service::readyz::handle,
        service::metrics::handle,
        service::schema::handle,
        service::swagger_ui::handle,
        service::redoc::handle,
    ),
    components(schemas(Problem)),
    modifiers(&Security, &EveryAnswer),
    tags(
        (name = "tracks", description = "Records that files belong to"),
        (name = "uploads", description = "Files on their way, arrived, or ended"),
        (name = "events", description = "What stores tell"),
        (name = "admin", description = "Reconciliation"),
        (name = "service", description = "The service about itself"),
    ),
)]
struct Api;

/// The document as JSON.
pub fn document() -> serde_json::Result<String> {
    let document = Api::openapi();
    document.to_pretty_json().map(|mut text| {
        text.push('\n');
        text
    })
}

/// The parameters of every list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents the parameters")]
pub struct PagingParams {
    /// How many rows at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// `next_cursor` of the page before, of the same list in the same order.
    cursor: Option<String>,
}

/// A server-sent event, as its fields are on the wire.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "documents the streams")]
pub struct ServerSentEvent {
    /// Its kind.
    event: String,
    /// What `Last-Event-ID` names it by.
    id: Option<String>,
    /// JSON.
    data: String,
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = [$(($status:literal, $text:literal)),+ $(,)?],)+) => {$(
        $(#[$doc])*
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$(($status.to_owned(), problem($status, $text).into())),+].into()
            }
        }
    )+};
}

problems! {
    /// A query that can't be read.
    BadQuery = [("400", "A parameter is wrong; `errors` names it")],
    /// An upload that does not come in parts.
    NotInParts = [("400", "The upload's strategy is not `multipart`")],
    /// A JSON body that can't be read.
    BadBody = [
        ("400", "The input breaks a rule; `errors` names the fields"),
        ("408", "The body did not come in time"),
        ("413", "The body is over its limit"),
        ("415", "The body is not JSON"),
    ],
    /// A file that can't be taken.
    BadFile = [
        ("400", "The file breaks a rule of the policy; `errors` says which"),
        ("403", "`/problems/disabled`: direct uploads are switched off; or `/problems/forbidden`: \
            the token lacks the scope `uploads:write`"),
        ("408", "The client stopped sending"),
        ("409", "The upload was ended while its bytes were coming"),
        ("415", "The policy takes no such media type"),
    ],
    /// A sender without the token.
    Refused = [
        ("401", "The token is missing or wrong"),
        ("403", "`/problems/disabled`: events are not taken here"),
    ],
    /// A key that came before.
    OnceOnly = [
        ("409", "`/problems/idempotency-in-flight`: the first request with the key has not \
            ended"),
        ("422", "`/problems/idempotency-mismatch`: the key came with another request before"),
    ],
    /// A client that reads something else.
    NotAcceptable = [("406", "The `Accept` header admits neither JSON nor problems")],
    /// Nothing there.
    NotFound = [("404", "There is no such thing")],
    /// A state that refuses it.
    Conflict = [("409", "The state refuses it")],
    /// The object is not in the store.
    NotArrived = [("409", "`/problems/not-arrived`: the object is not there yet")],
    /// The parts are not the file.
    PartsIncomplete = [("409", "`/problems/parts-incomplete`: `missing`, `wrong` and \
        `unexpected` number the parts; or `/problems/parts-gone`: presign and send again")],
    /// The store holds no parts.
    PartsGone = [("409", "`/problems/parts-gone`: presign the upload and send them again")],
    /// The only file is on its way.
    FilePending = [("409", "`/problems/file-pending`: the only file is on its way")],
    /// A run is at work.
    RunActive = [("409", "`/problems/run-active`: `run_id` is at work on that mode and policy; \
        or `/problems/idempotency-in-flight`")],
    /// A key that came with another request before.
    OtherKey = [
        ("422", "`/problems/idempotency-mismatch`: the key came with another request before"),
    ],
    /// Something is down.
    NotReady = [("503", "Something is down; `checks` says what")],
}

fn problem(status: &str, text: &str) -> Response {
    let (name, title) = match status {
        "400" => ("validation", "The input breaks a rule"),
        "401" => ("unauthorized", "Who are you?"),
        "403" => ("forbidden", "The token lacks a scope"),
        "404" => ("not-found", "Not found"),
        "406" => ("not-acceptable", "Nothing that the client reads"),
        "408" => ("request-timeout", "The body did not come in time"),
        "409" => ("state-conflict", "The state refuses it"),
        "413" => ("body-too-large", "The body is over its limit"),
        "415" => ("unsupported-media-type", "Unsupported media type"),
        "422" => ("idempotency-mismatch", "The key was used for another request"),
        "429" => ("rate-limited", "Too many requests"),
        "502" => ("store-error", "The object store failed"),
        "503" => ("unavailable", "Not available; try again"),
        _ => ("internal", "Internal server error"),
    };
    let kind = text.strip_prefix('`').and_then(|text| text.split_once('`'));
    let kind = kind.map_or(format!("/problems/{name}"), |(kind, _)| kind.to_owned());
    let mut example = json!({"type": kind, "title": title,
        "status": status.parse::<u16>().unwrap_or(500),
        "request_id": "0190a6f2-7b3c-7def-8123-456789abcdef"});
    if status == "400" {
        example["errors"] = json!({"file": ["File is larger than max_size=1048576"]});
    }
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .example(Some(example))
        .build();
    ResponseBuilder::new().description(text).content(PROBLEM_JSON, content).build()
}

/// What every operation may answer, and what every answer carries.
struct EveryAnswer;

impl Modify for EveryAnswer {
    fn modify(&self, document: &mut Spec) {
        for (path, item) in &mut document.paths.paths {
            let operations =
                [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
            let mut named: Option<String> = None;
            for operation in operations.into_iter().flatten() {
                // One handler of two methods: ids must differ all the same.
                if named.is_some() && named == operation.operation_id {
                    operation.operation_id = named.as_ref().map(|id| format!("{id}_too"));
                }
                named.clone_from(&operation.operation_id);
                if path.starts_with("/api/") && !path.starts_with("/api/schema") {
                    add(operation, "500", "A fault of this service, without its internals");
                    add(operation, "502", "The object store refused or failed");
                    add(operation, "503", "Not available now; try again after `Retry-After`");
                }
                for response in operation.responses.responses.values_mut() {
                    if let RefOr::T(response) = response {
                        let id = ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
                        let header = HeaderBuilder::new()
                            .schema(Some(id))
                            .description(Some("The client's own, or a new one"));
                        let header = RefOr::T(header.build());
                        response.headers.insert("X-Request-Id".to_owned(), header);
                    }
                }
            }
        }
    }
}

/// What each route asks of its callers and gives them, as [`api::rules`] has it.
struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut Spec) {
        let scheme = |text: &str| {
            let http = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text));
            SecurityScheme::Http(http.build())
        };
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(
            BEARER,
            scheme(
                "An API key (`uck_...`) or a JSON Web Token. Where `auth.mode` is `none`, nothing \
             is asked for.",
            ),
        );
        components.add_security_scheme(
            EVENTS,
            scheme("The token of the configuration's `events.token`."),
        );
        let table = api::rules();
        for (path, item) in &mut document.paths.paths {
            for (method, operation) in [
                ("get", &mut item.get),
                ("put", &mut item.put),
                ("post", &mut item.post),
                ("delete", &mut item.delete),
                ("patch", &mut item.patch),
            ] {
                let Some(operation) = operation else { continue };
                let Some(rule) = table.get(&(path.clone(), method.to_owned())) else { continue };
                let (access, produces) = *rule;
                secure(operation, access);
                if produces.is_negotiated() {
                    add(
                        operation,
                        "406",
                        "The `Accept` header admits neither this answer nor problems",
                    );
                }
            }
        }
    }
}

const BEARER: &str = "bearer";
const EVENTS: &str = "events";

fn secure(operation: &mut Operation, access: Access) {
    operation.security = Some(match access {
        Access::Public => Vec::new(),
        Access::Events => vec![SecurityRequirement::new(EVENTS, [""; 0])],
        Access::Needs(scope) => {
            add(operation, "401", "The token is missing, unknown, revoked or expired");
            add(operation, "403", &format!("The token lacks the scope `{scope}`"));
            add(operation, "429", "More requests than the caller may send; see `Retry-After`");
            vec![SecurityRequirement::new(BEARER, [scope.name()])]
        }
    });
}

fn add(operation: &mut Operation, status: &str, text: &str) {
    let response = RefOr::T(problem(status, text));
    operation.responses.responses.entry(status.to_owned()).or_insert(response);
}

#[cfg(test)]
mod tests {
    use super::document;

    #[test]
    fn every_operation_says_what_it_asks_of_its_callers() {
        let document: serde_json::Value = serde_json::from_str(&document().unwrap()).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                assert!(operation["security"].is_array(), "{method} {path}");
            }
        }
    }

    #[test]
    fn the_snapshot_is_the_document() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/openapi.json");
        let document = document().unwrap();
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(path, &document).unwrap();
        }
        let snapshot = std::fs::read_to_string(path).unwrap_or_default();
        assert!(snapshot == document, "run with UPDATE_SNAPSHOTS=1 and review the difference");
    }
}
