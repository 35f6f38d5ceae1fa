//! Serves a computed bucket with S3's protocol, for processes that audit it: listings, and the few
//! objects that are written. It does not check signatures.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::http::Method;
use actix_web::web::{self, Bytes, Data, Query};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use chrono::SecondsFormat;
use serde::Deserialize;
use upload_coordinator::storage::{ListPage, ListRequest, ObjectStore as _};

use super::computed::Computed;

#[derive(Clone)]
struct Bucket {
    world: Arc<Computed>,
    written: Arc<Mutex<HashMap<String, Bytes>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Listing {
    prefix: Option<String>,
    start_after: Option<String>,
    continuation_token: Option<String>,
    max_keys: Option<usize>,
    uploads: Option<String>,
}

fn xml(body: String) -> HttpResponse {
    HttpResponse::Ok().content_type("application/xml").body(body)
}

fn page(found: &ListPage) -> Result<String, std::fmt::Error> {
    let mut body = format!("<ListBucketResult><IsTruncated>{}</IsTruncated>", found.next.is_some());
    if let Some(next) = &found.next {
        write!(body, "<NextContinuationToken>{next}</NextContinuationToken>")?;
    }
    for object in &found.objects {
        let at = object.last_modified.unwrap_or_default();
        let at = at.to_rfc3339_opts(SecondsFormat::Millis, true);
        write!(
            body,
            "<Contents><Key>{}</Key><LastModified>{at}</LastModified><ETag>&quot;{}&quot;</ETag>\
             <Size>{}</Size></Contents>",
            object.key, object.etag, object.size
        )?;
    }
    body.push_str("</ListBucketResult>");
    Ok(body)
}

async fn list(bucket: Data<Bucket>, listing: Query<Listing>) -> actix_web::Result<HttpResponse> {
    let Listing { prefix, start_after, continuation_token, max_keys, uploads } = listing.0;
    if uploads.is_some() {
        return Ok(xml("<ListMultipartUploadsResult></ListMultipartUploadsResult>".to_owned()));
    }
    let request = ListRequest {
        prefix: prefix.unwrap_or_default(),
        start_after,
        token: continuation_token,
        limit: max_keys.unwrap_or_default(),
    };
    let found =
        bucket.world.list(&request).await.map_err(actix_web::error::ErrorInternalServerError)?;
    Ok(xml(page(&found).map_err(actix_web::error::ErrorInternalServerError)?))
}

/// An object that was written: the marker of a policy.
async fn object(bucket: Data<Bucket>, request: HttpRequest, body: Bytes) -> HttpResponse {
    const ETAG: &str = "\"written\"";
    let mut written = bucket.written.lock().unwrap_or_else(PoisonError::into_inner);
    let key = request.path().to_owned();
    match *request.method() {
        Method::PUT => {
            written.insert(key, body);
            HttpResponse::Ok().insert_header(("etag", ETAG)).finish()
        }
        Method::DELETE => {
            written.remove(&key);
            HttpResponse::NoContent().finish()
        }
        _ => match written.get(&key) {
            Some(bytes) => HttpResponse::Ok().insert_header(("etag", ETAG)).body(bytes.clone()),
            None => HttpResponse::NotFound()
                .content_type("application/xml")
                .body("<Error><Code>NoSuchKey</Code></Error>"),
        },
    }
}

/// Prints the address, and serves until the process is killed.
pub async fn serve(world: Computed) -> std::io::Result<()> {
    let bucket = Bucket { world: Arc::new(world), written: Arc::default() };
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(bucket.clone()))
            .route("/{bucket}", web::get().to(list))
            .route("/{bucket}/", web::get().to(list))
            .route("/{bucket}", web::head().to(HttpResponse::Ok))
            .route("/{bucket}/", web::head().to(HttpResponse::Ok))
            .default_service(web::to(object))
    })
    .bind("127.0.0.1:0")?;
    println!("http://{}", server.addrs()[0]);
    server.run().await
}
