//! The OpenAPI document, assembled from the documentation of the routes.
//!
//! `openapi.json` is its committed snapshot, so that a change of the API is visible in review.
//! `UPDATE_SNAPSHOTS=1 cargo test` writes it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::json;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Spec, Ref, RefOr, Server};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi};

use super::api::{
    self, admin_uploads, attachments, events, instance, moves, orphans, problems, reconciliations,
    service, stats, tracks, upload_tokens, uploads, webhooks,
};
use super::middleware::access::Access;
use super::problem::{Code, PROBLEM_JSON, Problem, Row};
use super::views::FileUrlView;

mod shape;
#[cfg(test)]
mod tests;

use shape::Shape;

/// The JSON of the document.
pub struct Document(pub Bytes);

#[derive(OpenApi)]
#[openapi(
    info(title = "upload-coordinator",
        description = "Presigned uploads straight to S3, with a status you can trust.\n\n\
            Errors are `application/problem+json` (RFC 9457). Every response has an \
            `X-Request-Id`. Every path works with and without a trailing slash, and every \
            GET also as HEAD."),
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
        uploads::create_batch::handle,
        uploads::confirm_batch::handle,
        uploads::get::handle,
        uploads::events::handle,
        uploads::history::handle,
        uploads::delete::handle,
        uploads::content::handle,
        uploads::file::handle,
        uploads::presign::handle,
        uploads::verdicts::handle,
        uploads::redirect::handle,
        uploads::confirm::handle,
        uploads::sign_parts::handle,
        uploads::list_parts::handle,
        uploads::complete::handle,
        upload_tokens::list::handle,
        upload_tokens::create::handle,
        upload_tokens::delete::handle,
        attachments::list::handle,
        attachments::get::handle,
        attachments::put::handle,
        attachments::delete::handle,
        attachments::file::handle,
        reconciliations::list::handle,
        reconciliations::start::handle,
        reconciliations::get::handle,
        reconciliations::findings::handle,
        reconciliations::events::handle,
        reconciliations::cancel::handle,
        moves::list::handle,
        moves::start::handle,
        moves::get::handle,
        moves::findings::handle,
        moves::events::handle,
        moves::cancel::handle,
        orphans::purge::handle,
        instance::reissue::handle,
        instance::reclaim::handle,
        admin_uploads::verify::handle,
        admin_uploads::verify_rejected::handle,
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
    components(schemas(Problem, FileUrlView)),
    modifiers(&Security, &CommonResponses, &Shape),
    tags(
        (name = "tracks", description = "Records with a file"),
        (name = "uploads", description = "Uploads of files"),
        (name = "upload tokens", description = "Credentials for browsers and apps without an account"),
        (name = "attachments", description = "The files of a back end's records"),
        (name = "events", description = "Events from stores"),
        (name = "admin", description = "Reconciliation, moves, markers and webhook deliveries"),
        (name = "service", description = "Health and documentation of the service"),
    ),
)]
struct Api;

/// The settings that the document depends on.
#[derive(Debug, Clone, Copy)]
pub struct DocumentConfig<'a> {
    /// `server.public_url`, or empty.
    pub public_url: &'a str,
    /// Whether callers must authenticate: `auth.mode` is not `none`.
    pub authentication: bool,
}

impl Default for DocumentConfig<'_> {
    fn default() -> Self {
        Self { public_url: "", authentication: true }
    }
}

/// The document as JSON.
pub fn document(config: &DocumentConfig<'_>) -> serde_json::Result<String> {
    let mut document = Api::openapi();
    // Without a configured URL, clients resolve `/` against the URL of the document.
    let url = if config.public_url.is_empty() { "/" } else { config.public_url };
    document.servers = Some(vec![Server::new(url)]);
    if !config.authentication {
        remove_authentication(&mut document);
    }
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
    /// The maximum number of items.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// The `next_cursor` of the previous page of the same list in the same order.
    cursor: Option<String>,
}

/// A server-sent event.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "documents the streams")]
pub struct ServerSentEvent {
    /// The type of the event.
    event: String,
    /// The id, for `Last-Event-ID`.
    #[schema(nullable = false)]
    id: Option<String>,
    /// The data as JSON.
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
    /// An invalid query.
    BadQuery = [("400", "A parameter is invalid; `errors` names it")],
    /// An invalid subject in the path.
    BadSubject = [("400", "The subject is invalid")],
    /// An upload that ended or is attached elsewhere.
    NotAttachable = [("409", "`/problems/not-attachable`: the upload ended or is attached elsewhere")],
    /// An upload that is not a multipart upload.
    NotInParts = [("400", "The upload's strategy is not `multipart`")],
    /// An invalid JSON body.
    BadBody = [
        ("400", "The input is invalid; `errors` names the fields"),
        ("408", "The body did not arrive in time"),
        ("413", "The body is too large"),
        ("415", "The body is not JSON"),
    ],
    /// A file that is refused.
    BadFile = [
        ("400", "The file violates a rule of the policy, or is only a part of a file; `errors` \
            names it"),
        ("403", "`/problems/disabled`: direct uploads are disabled; or `/problems/forbidden`: \
            the token does not have the scope `uploads:write`"),
        ("408", "The client stopped sending"),
        ("409", "The upload ended while it was in progress"),
        ("415", "The policy does not allow this media type"),
    ],
    /// A sender of events without the token.
    Refused = [
        ("401", "The token is missing or wrong"),
        ("403", "`/problems/disabled`: bucket events are not accepted; or `/problems/signature`: \
            the signature of a message from SNS is not valid"),
    ],
    /// Errors of an idempotency key.
    IdempotencyErrors = [
        ("409", "`/problems/idempotency-in-flight`: the first request with the key has not \
            finished"),
        ("422", "`/problems/idempotency-mismatch`: the key belongs to another request"),
    ],
    /// A client that does not accept the response.
    NotAcceptable = [("406", "`Accept` allows neither JSON nor problem documents")],
    /// A resource that does not exist.
    NotFound = [("404", "There is no such resource")],
    /// An operation that the state does not allow.
    Conflict = [("409", "Not possible in the current state")],
    /// An object that is not in the store.
    NotArrived = [("409", "`/problems/not-arrived`: the object is not in the store yet")],
    /// A PUT that is not redirected.
    NotRedirected = [("400", "The upload's strategy is not `put`, a header of the signed URL is \
        missing, or the body is not the declared one; `errors` names it")],
    /// Parts that are not the whole file.
    PartsIncomplete = [("409", "`/problems/parts-incomplete`: `missing`, `wrong` and \
        `unexpected` list part numbers; or `/problems/parts-gone`: presign and upload again")],
    /// Parts that the store no longer has.
    PartsGone = [("409", "`/problems/parts-gone`: presign the upload and upload the parts again")],
    /// A file that is not verified yet.
    FilePending = [("409", "`/problems/file-pending`: the file has not arrived yet or is being \
        inspected, and there is no earlier file")],
    /// Another active run.
    RunActive = [("409", "`/problems/run-active`: `run_id` is active for this mode and policy; \
        or `/problems/idempotency-in-flight`")],
    /// A key of another request.
    OtherKey = [
        ("422", "`/problems/idempotency-mismatch`: the key belongs to another request"),
    ],
    /// A service that is not ready.
    NotReady = [("503", "Something is not available; `checks` names it")],
}

/// A response with a problem document as its example. The example has the problem type with which
/// the description starts (in backquotes). Otherwise it has the most common type for the status.
fn problem(status: &str, description: &str) -> Response {
    let default = match status {
        "400" => Code::Validation,
        "401" => Code::Unauthorized,
        "403" => Code::Forbidden,
        "404" => Code::NotFound,
        "406" => Code::NotAcceptable,
        "408" => Code::Timeout,
        "409" => Code::State,
        "413" => Code::TooLarge,
        "415" => Code::MediaType,
        "422" => Code::KeyMismatch,
        "429" => Code::RateLimited,
        "502" => Code::Store,
        "503" => Code::Unavailable,
        _ => Code::Internal,
    };
    let name = description.strip_prefix("`/problems/").and_then(|text| text.split_once('`'));
    let code = name.and_then(|(name, _)| Code::named(name)).unwrap_or(default);
    let Row { name, title, .. } = code.row();
    let mut example = json!({"type": format!("/problems/{name}"), "title": title,
        "status": status.parse::<u16>().unwrap_or(500),
        "request_id": "0190a6f2-7b3c-7def-8123-456789abcdef"});
    if status == "400" {
        example["errors"] = json!({"file": ["File is larger than max_size=1048576"]});
    }
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .example(Some(example))
        .build();
    ResponseBuilder::new().description(description).content(PROBLEM_JSON, content).build()
}

/// Adds the responses that every operation can have, and the headers that every response has.
struct CommonResponses;

impl Modify for CommonResponses {
    fn modify(&self, document: &mut Spec) {
        for (path, item) in &mut document.paths.paths {
            let operations =
                [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
            let mut named: Option<String> = None;
            for operation in operations.into_iter().flatten() {
                // Two methods can share a handler, but operation ids must be unique.
                if named.is_some() && named == operation.operation_id {
                    operation.operation_id = named.as_ref().map(|id| format!("{id}_too"));
                }
                named.clone_from(&operation.operation_id);
                if path.starts_with("/api/") && !path.starts_with("/api/schema") {
                    add(operation, "500", "The service failed");
                    add(operation, "502", "The object store refused or failed");
                    add(
                        operation,
                        "503",
                        "Not available; try again after the seconds in `Retry-After`",
                    );
                }
                for response in operation.responses.responses.values_mut() {
                    if let RefOr::T(response) = response {
                        let id = ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
                        let header = HeaderBuilder::new()
                            .schema(Some(id))
                            .description(Some("The id from the client, or a new one"));
                        let header = RefOr::T(header.build());
                        response.headers.insert("X-Request-Id".to_owned(), header);
                    }
                }
            }
        }
    }
}

/// Adds the access rule and media type of each route, from [`api::rules`].
struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut Spec) {
        let scheme = |text: &str| {
            let http = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text));
            SecurityScheme::Http(http.build())
        };
        let components = document.components.get_or_insert_default();
        components
            .add_security_scheme(BEARER, scheme("An API key (`uck_...`) or a JSON Web Token."));
        components.add_security_scheme(
            UPLOAD_TOKEN,
            scheme(
                "An upload token (`upt_...`) of `POST /api/upload-tokens`. It gives access only to the \
                 uploads that it created. Clients that cannot send headers put `/t/{token}` \
                 before the path instead; then `Authorization` is ignored, and `Location` and \
                 `request.url` begin with `/t/{token}` too.",
            ),
        );
        components.add_security_scheme(
            EVENTS,
            scheme(
                "The token in `events.token` of the configuration. It may also be the password of \
             HTTP Basic authentication.",
            ),
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
                        "`Accept` allows neither this media type nor problem documents",
                    );
                }
            }
        }
    }
}

const BEARER: &str = "bearer";
const UPLOAD_TOKEN: &str = "upload_token";
const EVENTS: &str = "events";

fn secure(operation: &mut Operation, access: Access) {
    operation.security = Some(match access {
        Access::Public => Vec::new(),
        Access::Events => vec![SecurityRequirement::new(EVENTS, [""; 0])],
        Access::Needs(scope) | Access::NeedsOrToken(scope) => {
            add(operation, "401", "The token is missing, unknown, revoked or expired");
            add(operation, "403", &format!("The token does not have the scope `{scope}`"));
            add(
                operation,
                "429",
                "Too many requests; try again after the seconds in `Retry-After`",
            );
            let mut any = vec![SecurityRequirement::new(BEARER, [scope.name()])];
            if matches!(access, Access::NeedsOrToken(_)) {
                any.push(SecurityRequirement::new(UPLOAD_TOKEN, [""; 0]));
            }
            any
        }
    });
}

/// Removes all kinds of authentication except the token of bucket events, which is required in
/// every `auth.mode`.
fn remove_authentication(document: &mut Spec) {
    if let Some(components) = &mut document.components {
        components.security_schemes.retain(|name, _| name == EVENTS);
    }
    let events = SecurityRequirement::new(EVENTS, [""; 0]);
    for operation in document.paths.paths.values_mut().flat_map(shape::operations) {
        operation.security.take_if(|required| !required.contains(&events));
    }
}

fn add(operation: &mut Operation, status: &str, text: &str) {
    let response = RefOr::T(problem(status, text));
    operation.responses.responses.entry(status.to_owned()).or_insert(response);
}
