//! `GET /problems/{name}`

use std::fmt::Write as _;

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Path;

use crate::http::openapi::NotFound;
use crate::http::problem::{ApiError, Code, Row};

/// Explain a problem
///
/// The `type` of a problem document resolves to this page.
#[utoipa::path(get, path = "/problems/{name}", operation_id = "get_problem", tag = "service",
    params(("name" = String, Path, description = "The last segment of a problem's `type`",
        example = "validation")),
    responses((status = 200, description = "The page", body = String,
        content_type = "text/html"), NotFound))]
pub async fn handle(name: Path<String>) -> Result<HttpResponse, ApiError> {
    let code = Code::named(&name);
    let code =
        code.ok_or_else(|| ApiError::saying(Code::NotFound, "There is no problem with this name"))?;
    let mut response = HttpResponse::Ok();
    response.content_type("text/html; charset=utf-8");
    response.insert_header((CACHE_CONTROL, "public, max-age=3600"));
    Ok(response.body(page(code)))
}

/// The page of a problem. Its text comes only from the table of problems, never from a client.
fn page(code: Code) -> String {
    let Row { name, status, title, retry_after, meaning } = code.row();
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>body {{ font: 1.1em/1.5 sans-serif; max-width: 40em; margin: 3em auto; \
         padding: 0 1em }} li {{ font-size: .9em }}</style>\n\
         <h1>{title}</h1>\n<p>{}</p>\n<p>HTTP status {status}",
        text(meaning)
    );
    if let Some(seconds) = retry_after {
        let _ = write!(page, ", with <code>Retry-After</code>: usually {seconds} s");
    }
    page.push_str(".</p>\n<h2>All problems</h2>\n<ul>\n");
    for other in Code::ALL {
        let Row { name: other, status, title, .. } = other.row();
        let here = if other == name { " aria-current=\"page\"" } else { "" };
        let status = status.as_u16();
        let _ = writeln!(
            page,
            "<li><a href=\"/problems/{other}\"{here}>{other}</a>: {status}, {title}"
        );
    }
    page.push_str("</ul>\n");
    page
}

/// Escapes HTML, and converts text between backquotes to `<code>` elements.
fn text(words: &str) -> String {
    let escaped = words.replace('&', "&amp;").replace('<', "&lt;");
    let parts = escaped.split('`').enumerate();
    let mark = |(n, part): (usize, &str)| match n % 2 {
        0 => part.to_owned(),
        _ => format!("<code>{part}</code>"),
    };
    parts.map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_a_page_that_explains_it() {
        for code in Code::ALL {
            let Row { name, title, meaning, .. } = code.row();
            let page = page(code);
            assert!(page.contains(title) && page.contains("aria-current"), "{name}");
            assert!(!page.contains('`') && meaning.matches('`').count() % 2 == 0, "{name}");
        }
        assert_eq!(text("a `b` <c> & d"), "a <code>b</code> &lt;c> &amp; d");
    }
}
