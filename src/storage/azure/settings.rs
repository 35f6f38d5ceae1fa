//! The settings of a container, and their source in the configuration.

use secrecy::SecretString;
use url::Url;

use super::shared_key::AccountKey;
use crate::config::StoreConfig;
use crate::storage::backend::OpenError;
use crate::storage::s3::Timeouts;

/// The variables of Azure's command line, for an account that is not in the configuration.
const ACCOUNT_VARIABLE: &str = "AZURE_STORAGE_ACCOUNT";
const KEY_VARIABLE: &str = "AZURE_STORAGE_KEY";

/// The address and the credentials of a container.
#[derive(Debug, Clone)]
pub struct AzureSettings {
    /// The name of the storage account.
    pub account: String,
    /// One of the account's keys.
    pub key: AccountKey,
    /// The container.
    pub container: String,
    /// The internal endpoint. `None`: the account's endpoint in Azure's public cloud.
    pub endpoint: Option<Url>,
    /// The endpoint in signed URLs. `None`: the same as [`Self::endpoint`].
    pub public_endpoint: Option<Url>,
    /// Whether the account is in the path. `None`: it is, unless the host begins with the account.
    pub path_style: Option<bool>,
    /// The time limits.
    pub timeouts: Timeouts,
    /// The largest number of attempts of each call, including the first one.
    pub max_attempts: u32,
}

impl AzureSettings {
    /// A container at an endpoint, with defaults for the other settings.
    pub fn new(
        account: impl Into<String>,
        key: AccountKey,
        container: impl Into<String>,
        endpoint: Option<Url>,
    ) -> Self {
        Self {
            account: account.into(),
            key,
            container: container.into(),
            endpoint,
            public_endpoint: None,
            path_style: None,
            timeouts: Timeouts::default(),
            max_attempts: 3,
        }
    }

    /// The settings of `storage.<name>`. Without an account or a key, the variables of Azure's
    /// command line are read.
    pub fn from_config(name: &str, store: &StoreConfig) -> Result<Self, OpenError> {
        let at = |key: &str| format!("storage.{name}.{key}");
        let url = |key: &str, text: Option<&str>| {
            let parsed = text.map(Url::parse).transpose();
            parsed.map_err(|error| OpenError::Invalid { key: at(key), source: error.into() })
        };
        let missing = |key: &str, variable: &str| OpenError::Missing {
            key: at(key),
            problem: format!("is missing; set it, or the variable {variable}"),
        };
        let account = store.account.clone().or_else(|| variable(ACCOUNT_VARIABLE));
        let key = store.access_key.clone();
        let key = key.or_else(|| variable(KEY_VARIABLE).map(SecretString::from));
        let account = account.ok_or_else(|| missing("account", ACCOUNT_VARIABLE))?;
        let key = key.ok_or_else(|| missing("access_key", KEY_VARIABLE))?;
        let key = AccountKey::parse(&key)
            .map_err(|error| OpenError::Invalid { key: at("access_key"), source: error.into() })?;
        let endpoint = url("endpoint", store.endpoint.as_deref())?;
        Ok(Self {
            public_endpoint: url("public_endpoint", store.public_endpoint())?,
            path_style: store.path_style,
            timeouts: Timeouts::from_config(store),
            ..Self::new(account, key, store.bucket(name)?, endpoint)
        })
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
