//! The inspectors that policies name.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::app::inspections::{ClamdExaminer, Examiner, HttpExaminer, Inspector, Inspectors};
use crate::config::{Config, InspectorConfig, InspectorKind};
use crate::domain::inspection::InspectorName;
use crate::net::OutboundClient;
use crate::net::clamd::Clamd;

/// Builds the inspectors that run after the verification. The configuration was validated.
pub fn inspectors(config: &Config) -> Inspectors {
    let used: BTreeSet<&String> =
        config.policies.values().flat_map(|policy| &policy.inspect).collect();
    let built = used.into_iter().filter_map(|name| {
        let inspector = inspector(name, config.inspectors.get(name)?, config)?;
        Some((inspector.name.clone(), Arc::new(inspector)))
    });
    built.collect()
}

fn inspector(name: &str, settings: &InspectorConfig, config: &Config) -> Option<Inspector> {
    let timeout = settings.timeout.get();
    let examiner: Box<dyn Examiner> = match settings.kind {
        InspectorKind::Clamd => Box::new(ClamdExaminer(Clamd::new(settings.clamd_address()?))),
        InspectorKind::Http => Box::new(HttpExaminer {
            url: settings.url()?,
            secret: settings.key()?,
            client: OutboundClient::new(timeout, config.webhooks.allow_private),
        }),
        // `media` runs during the verification, not after it.
        InspectorKind::Media => return None,
    };
    Some(Inspector {
        name: InspectorName::new(name),
        examiner,
        timeout,
        deadline: settings.deadline.delta(),
        max_size: settings.max_size(),
        concurrency: settings.concurrency,
        on_error: settings.on_error,
        on_unscannable: settings.on_unscannable,
    })
}
