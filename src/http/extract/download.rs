//! The options of a download, and its response.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::{CACHE_CONTROL, LOCATION};
use actix_web::{FromRequest, HttpRequest, HttpResponse};

use super::{Query, text};
use crate::http::middleware::accept::Produces;
use crate::http::problem::ApiError;
use crate::http::views::FileUrlView;
use crate::storage::signer::SignedRequest;

/// How the client wants the URL of a file. It takes the whole query of the request.
pub struct Download {
    redirect: bool,
}

impl FromRequest for Download {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Query::from_request(request, payload).into_inner().and_then(|mut query| {
            let redirect = query.value("redirect", text::flag).unwrap_or(true);
            query.finish()?;
            if !redirect {
                Produces::Json.check(request.headers())?;
            }
            Ok(Self { redirect })
        }))
    }
}

impl Download {
    /// The signed URL as a redirect, or as JSON.
    pub fn response(self, signed: SignedRequest) -> HttpResponse {
        if self.redirect {
            let mut response = HttpResponse::TemporaryRedirect();
            response.insert_header((CACHE_CONTROL, "no-store"));
            return response.insert_header((LOCATION, signed.url)).finish();
        }
        let mut response = HttpResponse::Ok();
        response.insert_header((CACHE_CONTROL, "no-store")).json(FileUrlView::from(signed))
    }
}
