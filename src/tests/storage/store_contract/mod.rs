//! The contract of all stores as one test suite: `cargo test --test integration store_contract`.
//!
//! If the capabilities say that a store enforces a rule, it must refuse a request that breaks the
//! rule. If they say that it does not, it must accept the request, so that a new capability is
//! noticed.
//!
//! To add a test, write an `async fn` with one [`Subject`] in the file of its kind, and add its
//! name to the list below. A test may write only below `subject.prefix()`.

use super::servers::Subject;

mod listings;
mod multipart;
mod objects;
mod wire;

async fn run(subject: Subject, case: impl AsyncFn(&Subject)) {
    case(&subject).await;
    subject.clean_up().await;
}

macro_rules! on_memory {
    ($($kind:ident: $($case:ident),* $(,)?;)*) => { mod memory { $($(
        #[tokio::test]
        async fn $case() {
            super::run(super::Subject::memory(), super::$kind::$case).await;
        }
    )*)* } };
}

macro_rules! on_server {
    ($($kind:ident: $($case:ident),* $(,)?;)*) => { mod server { $($(
        #[tokio::test]
        async fn $case() {
            super::run(super::Subject::server().await, super::$kind::$case).await;
        }
    )*)* } };
}

#[cfg(feature = "embedded-s3")]
macro_rules! on_unconditional {
    ($($kind:ident: $($case:ident),* $(,)?;)*) => { mod unconditional { $($(
        #[tokio::test]
        async fn $case() {
            super::run(super::Subject::unconditional().await, super::$kind::$case).await;
        }
    )*)* } };
}

#[cfg(not(feature = "embedded-s3"))]
macro_rules! on_unconditional {
    ($($cases:tt)*) => {};
}

/// The first block has the tests for every store, the second block the tests only for stores with a
/// network connection.
macro_rules! contract {
    ({ $($everywhere:tt)* } { $($also:tt)* }) => {
        on_memory! { $($everywhere)* }
        on_server! { $($everywhere)* $($also)* }
        on_unconditional! { $($everywhere)* $($also)* }
    };
}

contract! {
    {
        objects:
            what_was_put_is_returned_by_head_and_read_back,
            a_missing_object_is_none,
            an_empty_object_is_an_object,
            a_read_is_bound_to_the_etag,
            a_range_is_cut_at_the_end_of_the_object,
            a_stream_gives_the_whole_object,
            deleting_is_done_once_and_for_all,
            many_objects_are_deleted_at_once,
            head_finds_a_version_by_its_id_and_it_is_deleted_with_its_object,
            a_conditional_put_never_overwrites,
            a_put_on_a_condition_never_replaces_another_object,
            of_racing_creations_one_wins,
            a_wrong_checksum_changes_nothing,
            head_returns_a_checksum_if_the_store_records_it,
            keys_come_back_as_they_were_put,
            creating_a_bucket_again_is_nothing;
        listings:
            pages_cover_every_key_once,
            pages_ascend_where_the_store_orders,
            a_listing_may_begin_behind_any_text_where_the_store_can,
            a_prefix_bounds_the_listing,
            a_listing_of_nothing_is_empty;
        multipart:
            parts_become_one_object,
            checked_parts_make_an_object_whose_checksum_head_tells,
            a_part_that_is_sent_again_replaces_the_first,
            an_aborted_upload_is_gone,
            a_completion_never_overwrites_where_the_store_can,
            unfinished_uploads_are_listed_below_their_prefix;
    }
    {
        wire:
            everything_declared_arrives_with_the_object,
            a_bare_url_takes_a_bare_put,
            a_url_is_for_one_key_and_one_method,
            a_length_other_than_signed_is_refused,
            a_content_type_other_than_signed_is_refused,
            a_declared_header_cannot_be_left_out,
            an_unsigned_amz_header_is_refused,
            a_body_that_breaks_its_checksum_is_refused,
            an_expired_url_is_refused,
            a_longer_expiry_than_signed_is_refused,
            a_second_put_to_a_write_once_url_is_refused,
            a_download_carries_the_name_that_was_signed,
            a_form_is_held_to_its_policy,
            an_upload_in_presigned_parts_arrives,
            a_presigned_part_is_held_to_its_checksum,
            an_object_is_kept_as_its_settings_say,
            a_key_that_needs_escaping_can_be_signed_for,
            wrong_credentials_are_distinguished_from_a_missing_bucket_and_a_dead_server,
            cors_rules_come_back_as_they_were_put;
    }
}
