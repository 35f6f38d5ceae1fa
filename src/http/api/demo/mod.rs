//! `GET /demo`: a page for trying uploads, with a client to copy.
//!
//! Only the command `dev` enables the page, by [`HttpSettings::demo`](crate::http::HttpSettings).
//! Everything that the page loads is in the binary, and its content security policy allows
//! connections only to this service and to the stores. The page is not part of the API or of the
//! OpenAPI document.
//!
//! `client.js` is the upload client to copy. It does not depend on `page.js`, the page's script.

use actix_web::HttpResponse;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::ServiceConfig;
use url::Url;

use super::at;
use crate::app::App;
use crate::http::middleware::access::Access;
use crate::storage::Store;

/// A path, its media type and its bytes.
const ASSETS: [(&str, &str, &str); 5] = [
    ("/demo", "text/html; charset=utf-8", include_str!("page.html")),
    ("/demo/page.css", "text/css; charset=utf-8", include_str!("page.css")),
    ("/demo/page.js", "text/javascript; charset=utf-8", include_str!("page.js")),
    ("/demo/client.js", "text/javascript; charset=utf-8", include_str!("client.js")),
    ("/demo/icon.svg", "image/svg+xml", include_str!("icon.svg")),
];

pub(in crate::http) fn register(config: &mut ServiceConfig, policy: &str) {
    for (path, media_type, text) in ASSETS {
        let policy = policy.to_owned();
        let handler = move || {
            let response = HttpResponse::Ok()
                .content_type(media_type)
                .insert_header((CACHE_CONTROL, "no-cache"))
                .insert_header((CONTENT_SECURITY_POLICY, &*policy))
                .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
                .insert_header((REFERRER_POLICY, "no-referrer"))
                .body(text);
            std::future::ready(response)
        };
        config.service(at(path).get(Access::Public, handler).into_resource());
    }
}

/// What the page may load, and where it may connect.
pub(in crate::http) fn content_security_policy(app: &App) -> String {
    let origin = |store: &Store| {
        let url = Url::parse(&store.signer.bucket_url()).ok()?;
        Some(url.origin().ascii_serialization())
    };
    let stores = app.stores.values().filter_map(origin).collect::<Vec<_>>().join(" ");
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self' {stores}; media-src 'self' {stores}; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    )
}

#[cfg(test)]
mod tests {
    use actix_web::App as Actix;
    use actix_web::test::{TestRequest, call_service, init_service, read_body};

    use super::*;

    #[actix_web::test]
    async fn every_file_of_the_page_is_served_with_a_strict_policy() {
        let app = init_service(Actix::new().configure(|c| register(c, "default-src 'none'"))).await;
        for (path, media_type, text) in ASSETS {
            let request = TestRequest::get().uri(path).to_request();
            let response = call_service(&app, request).await;
            assert_eq!(response.status(), 200, "{path}");
            for (name, value) in [
                ("content-type", media_type),
                ("cache-control", "no-cache"),
                ("content-security-policy", "default-src 'none'"),
                ("x-content-type-options", "nosniff"),
            ] {
                assert_eq!(response.headers().get(name).unwrap(), value, "{path}");
            }
            assert_eq!(read_body(response).await, text, "{path}");
            // The policy would block these.
            for foreign in ["https://", "//cdn", "style=", "onclick=", "<script>"] {
                assert!(!text.contains(foreign), "{path} has {foreign}");
            }
        }
        let (_, _, page) = ASSETS[0];
        let named = page.split('"').filter(|text| text.starts_with("/demo"));
        for name in named {
            assert!(ASSETS.iter().any(|(path, ..)| *path == name), "{name}");
        }
    }
}
