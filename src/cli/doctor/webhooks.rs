//! Checks that the endpoints of webhooks respond. Nothing is delivered.

use futures_util::future::join_all;
use url::Url;

use crate::cli::adapters;
use crate::config::Config;
use crate::net::NetError;
use crate::storage::probe::Check;
use crate::telemetry::chain;

pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let client = adapters::webhook_client(config);
    let endpoints = config.webhooks.endpoints.iter();
    let urls = endpoints.filter_map(|(name, endpoint)| Some((name, endpoint.url()?)));
    join_all(urls.map(|(name, url)| check(&client, name, url))).await
}

async fn check(client: &crate::net::OutboundClient, name: &str, url: Url) -> Check {
    match client.head(&url).await {
        // The receiver may refuse HEAD. Any response shows that it can be reached.
        Ok(status) => Check::pass(name.to_owned(), format!("responds (HTTP {status} to HEAD)")),
        Err(error @ NetError::PrivateAddress) => Check::fail(
            name.to_owned(),
            chain(&error),
            "Set webhooks.allow_private = true, or use a public address.",
        ),
        Err(error) => Check::fail(
            name.to_owned(),
            chain(&error),
            &format!("Check webhooks.{name}.url, and that the receiver can be reached from here."),
        ),
    }
}
