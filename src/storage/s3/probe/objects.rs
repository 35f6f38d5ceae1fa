//! Checks the settings for stored objects: encryption, storage class, caching, tags.

use super::response::S3Response as _;
use super::{Check, EXPIRES_IN, Prober, Step};
use crate::domain::PolicyName;
use crate::domain::object_settings::{ObjectSettings, Sse};
use crate::storage::signer::{PostRequest, PutRequest, SignError};

const BODY: &[u8] = b"probe";

impl Prober<'_> {
    /// Checks whether the store encrypts an object with the store's own key.
    pub(super) async fn sse(&self) -> Step<Check> {
        let key = self.key("sse");
        let object = ObjectSettings { sse: Some(Sse::Aes256), ..ObjectSettings::default() };
        let request = PutRequest { object, ..PutRequest::default() };
        let response = self.put(&key, &request, BODY).await?;
        let shown = self.store.objects.head(&key).await?.and_then(|meta| meta.sse);
        let encrypts = response.is_success() && shown.as_deref() == Some(Sse::Aes256.name());
        self.learn(|can| can.sse = encrypts);
        let saw = match shown {
            _ if !response.is_success() => {
                format!("a PUT with sse = \"AES256\" returns {}", response.summary())
            }
            Some(shown) => format!("a PUT with sse = \"AES256\" is accepted; HEAD shows {shown}"),
            None => "a PUT with sse = \"AES256\" is accepted; HEAD shows no encryption".to_owned(),
        };
        // This check always passes: only policies that set `sse` need encryption, and there is a
        // check for each of these.
        Ok(Check::pass("sse", saw))
    }

    /// Checks whether the store accepts an object with a policy's settings.
    pub(super) async fn object(&self, policy: &PolicyName, object: &ObjectSettings) -> Step<Check> {
        let name = format!("object_{policy}");
        let key = self.key(&name);
        let request = PutRequest { object: object.clone(), ..PutRequest::default() };
        let response = self.put(&key, &request, BODY).await?;
        if !response.is_success() {
            let saw =
                format!("a PUT with the policy's object settings returns {}", response.summary());
            let mend = format!("Correct policies.{policy}.object: no upload of this policy works.");
            return Ok(Check::fail(name, saw, &mend));
        }
        let shown = self.store.objects.head(&key).await?.and_then(|meta| meta.sse);
        let expected = object.sse.map(Sse::name);
        Ok(if expected.is_some() && shown.as_deref() != expected {
            let shown = shown.as_deref().unwrap_or("no encryption");
            let saw = format!("the store accepts the policy's object settings; HEAD shows {shown}");
            let mend = "The store ignores the encryption: use another store, or encrypt its disks.";
            Check::fail(name, saw, mend)
        } else if let Some(refused) = self.form_refusal(policy, object).await? {
            let saw =
                format!("a PUT works, a form with the policy's object settings returns {refused}");
            let mend =
                "Let clients of this policy use PUT: the strategy `post` does not work with it.";
            Check::warn(name, saw, mend)
        } else {
            Check::pass(name, "the store accepts the policy's object settings")
        })
    }

    /// Why a form with these settings is refused. `None` if it works.
    async fn form_refusal(
        &self,
        policy: &PolicyName,
        object: &ObjectSettings,
    ) -> Step<Option<String>> {
        let key = self.key(&format!("object_{policy}_form"));
        let request = PostRequest { object: object.clone(), ..PostRequest::default() };
        let signed = self.store.signer.post(&key, &request, self.clock.now(), EXPIRES_IN).await;
        // This kind of store has no form uploads, so no client gets a form.
        let Some(signed) = (match signed {
            Err(SignError::Unsupported(_)) => None,
            signed => Some(signed?),
        }) else {
            return Ok(None);
        };
        let response = self.post(&signed, "probe").await?;
        Ok((!response.is_success()).then(|| response.summary()))
    }
}
