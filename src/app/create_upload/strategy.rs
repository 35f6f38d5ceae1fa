//! The strategy of a new upload, and the checks of its declaration that depend on the store.

use super::{DividedBy, NewUpload};
use crate::domain::Policy;
use crate::domain::limits::MAX_OBJECT_SIZE;
use crate::domain::metadata::check_metadata;
use crate::domain::parts::PartPlan;
use crate::domain::policy::FieldErrors;
use crate::domain::upload::{Declared, Strategy};
use crate::storage::{Capabilities, Store};

/// Returns the strategy: as requested, otherwise multipart from the policy's threshold on, and for
/// a file that is too large for a single PUT.
pub(super) fn choose_strategy(policy: &Policy, store: &Store, new: &NewUpload) -> Strategy {
    let Capabilities { multipart, max_put_size, .. } = *store.capabilities;
    let is_large = |size| size >= policy.multipart_threshold || size > max_put_size;
    let large = new.declared.size.is_some_and(is_large);
    let auto = if large && multipart && plan(policy, store, &new.declared).is_some() {
        Strategy::Multipart
    } else {
        Strategy::Put
    };
    new.strategy.unwrap_or(auto)
}

/// Whether the store accepts the condition of a write-once upload. A form has no condition, and a
/// direct upload uses it only if it is enforced.
pub(super) fn can_be_write_once(store: &Store, strategy: Strategy) -> bool {
    let capabilities = &store.capabilities;
    match strategy {
        Strategy::Put => capabilities.accepts_write_once(),
        Strategy::Multipart => {
            capabilities.accepts_write_once() || capabilities.multipart_write_once
        }
        Strategy::Post | Strategy::Direct | Strategy::Tus => true,
    }
}

/// The division into parts of the policy's size, as far as the store accepts parts of that size.
pub(super) fn plan(policy: &Policy, store: &Store, declared: &Declared) -> Option<PartPlan> {
    PartPlan::new(declared.size?, policy.part_size.min(store.capabilities.max_part_size))
}

pub(super) fn check(
    policy: &Policy,
    store: &Store,
    new: &NewUpload,
    strategy: Strategy,
) -> Result<(), FieldErrors> {
    let mut errors = policy.check_declared(&new.declared, "size").err().unwrap_or_default();
    check_strategy(policy, store, new, strategy, &mut errors);
    check_metadata(&new.metadata, &mut errors);
    check_checksum(policy, store, &new.declared, strategy, &mut errors);
    errors.into_result()
}

/// Why a client that needs S3's own requests can't send a file in parts.
pub(in crate::app) const NO_S3_MULTIPART: &str = "The store does not have S3's requests for uploads in parts, so this client must send the file \
     whole, or in parts through the service (tus)";

fn check_strategy(
    policy: &Policy,
    store: &Store,
    new: &NewUpload,
    strategy: Strategy,
    errors: &mut FieldErrors,
) {
    if new.write_once == Some(true) && !can_be_write_once(store, strategy) {
        errors.add(
            "write_once",
            "The store refuses requests with If-None-Match, so no upload to it can be write-once",
        );
    }
    let size = new.declared.size;
    let max_put_size = store.capabilities.max_put_size;
    let too_much = size.is_some_and(|size| size > max_put_size);
    match strategy {
        Strategy::Put if too_much => {
            errors.add("size", format!("A single PUT can have at most {max_put_size} bytes"));
        }
        Strategy::Post if !store.capabilities.post_policy => {
            errors.add("strategy", "The store does not accept form uploads");
        }
        Strategy::Post if too_much => {
            errors.add("size", format!("A form upload can have at most {max_put_size} bytes"));
        }
        Strategy::Post if new.write_once == Some(true) => {
            errors.add("write_once", "A form upload can't be write-once");
        }
        Strategy::Multipart | Strategy::Tus if !store.capabilities.multipart => {
            errors.add("strategy", "The store does not accept uploads in parts");
        }
        Strategy::Multipart
            if new.divided_by != DividedBy::Service && !store.capabilities.s3_multipart =>
        {
            errors.add("strategy", NO_S3_MULTIPART);
        }
        Strategy::Multipart if new.divided_by != DividedBy::Service => {}
        Strategy::Multipart if size.is_none() => {
            errors.add("size", "An upload in parts needs a declared size");
        }
        // The policy has already refused a size of zero.
        Strategy::Multipart if size != Some(0) && plan(policy, store, &new.declared).is_none() => {
            errors.add("size", format!("An object can have at most {MAX_OBJECT_SIZE} bytes"));
        }
        Strategy::Put | Strategy::Post | Strategy::Multipart | Strategy::Direct | Strategy::Tus => {
        }
    }
}

/// The service must be able to compare a declared checksum when the file arrives: with the store's
/// checksum, or by reading the file if the policy allows to read that much.
fn check_checksum(
    policy: &Policy,
    store: &Store,
    declared: &Declared,
    strategy: Strategy,
    errors: &mut FieldErrors,
) {
    let Some(checksum) = &declared.checksum else { return };
    let is_stored = match strategy {
        Strategy::Put => store.keeps_checksum(checksum.algorithm()),
        Strategy::Multipart => store.keeps_checksum_of_parts(checksum.algorithm()),
        // A form contains no checksum, and for a direct upload the service computes the checksum
        // itself.
        Strategy::Post | Strategy::Direct | Strategy::Tus => false,
    };
    if is_stored {
        return;
    }
    let largest = declared.size.unwrap_or(policy.max_size_of(declared));
    if largest > policy.verify_max_read {
        let (algorithm, limit) = (checksum.algorithm(), policy.verify_max_read);
        errors.add(
            "checksum",
            format!(
                "The store does not keep the {algorithm} of this upload, so it can only be \
                declared together with a size of at most {limit}"
            ),
        );
    }
}
