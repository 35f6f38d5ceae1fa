//! Moments as chrono's own `Serialize` writes them, but in one piece: that hands them over letter
//! by letter, and each is looked at whether JSON must escape it. For what every request answers.

use chrono::{DateTime, Utc};
use serde::Serializer;

use crate::domain::clock::in_rfc3339;

pub(super) fn write<S: Serializer>(at: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
    in_rfc3339(*at, 0, |text| to.serialize_str(text))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_what_chrono_writes(
            seconds in -99_999_999_999_i64..999_999_999_999, nanos in 0..1_000_000_000_u32, cut in 0..10_u32,
        ) {
            let nanos = nanos / 10_u32.pow(cut.min(9)) * 10_u32.pow(cut.min(9));
            let at: DateTime<Utc> = DateTime::from_timestamp(seconds, nanos).unwrap();
            let mut ours = Vec::new();
            super::write(&at, &mut serde_json::Serializer::new(&mut ours)).unwrap();
            prop_assert_eq!(ours, serde_json::to_vec(&at).unwrap());
        }
    }
}
