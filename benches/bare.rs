//! The limit that `scripts/bench` compares with: an actix-web server that does only HTTP and JSON.
//! `POST /create` parses the body of a creation. Every route returns as many bytes as its query
//! requests.
//!
//! Prints its address, and serves until it is killed.

use std::collections::BTreeMap;

use actix_web::web::{Bytes, Data, Json, Path, Query};
use actix_web::{App, HttpResponse, HttpServer, web};
use serde::Deserialize;

/// The body of `POST /api/uploads`.
#[derive(Deserialize)]
struct CreateBody {
    policy: Option<String>,
    track_id: Option<uuid::Uuid>,
    filename: String,
    content_type: Option<String>,
    size: Option<u64>,
    strategy: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
    expires_in: Option<i64>,
    write_once: Option<bool>,
}

#[derive(Deserialize)]
struct ResponseSize {
    /// The number of bytes to return, at most one mebibyte.
    bytes: usize,
}

fn body(filler: &Bytes, size: &ResponseSize) -> Bytes {
    filler.slice(..size.bytes.min(filler.len()))
}

async fn create(
    new: Json<CreateBody>,
    response_size: Query<ResponseSize>,
    filler: Data<Bytes>,
) -> HttpResponse {
    // All fields are used, so that the compiler does not remove the parsing.
    let CreateBody { policy, track_id, filename, content_type, size, strategy, .. } = &new.0;
    std::hint::black_box((policy, track_id, filename, content_type, size, strategy));
    std::hint::black_box((&new.metadata, new.expires_in, new.write_once));
    HttpResponse::Created().content_type("application/json").body(body(&filler, &response_size))
}

async fn get(
    id: Path<String>,
    response_size: Query<ResponseSize>,
    filler: Data<Bytes>,
) -> HttpResponse {
    std::hint::black_box(id);
    HttpResponse::Ok().content_type("application/json").body(body(&filler, &response_size))
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let filler = Data::new(Bytes::from(vec![b' '; 1 << 20]));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(filler.clone())
            .route("/create", web::post().to(create))
            .route("/get/{id}", web::get().to(get))
    })
    .bind("127.0.0.1:0")?;
    println!("http://{}", server.addrs()[0]);
    server.run().await
}
