//! Durations and sizes: every accepted value is within bounds, and its text is parsed to the same
//! value.

use proptest::prelude::*;

use super::super::value::{ConfigDuration, ConfigSize};
use crate::mutate::mutated_text;

/// Numbers with the units of durations and sizes, and with too large numbers.
fn written() -> impl Strategy<Value = String> {
    let number = prop_oneof!["[0-9]{1,4}", "[0-9]{15,22}", "[0-9]{1,3}\\.[0-9]{1,3}"];
    let unit = prop::sample::select(vec![
        "", "ns", "ms", "s", "min", "h", "d", "w", "y", "B", "kB", "KiB", "MiB", "GB", "TiB", "EiB",
    ]);
    (number, "[ ]{0,2}", unit).prop_map(|(number, space, unit)| format!("{number}{space}{unit}"))
}

proptest! {
    #[test]
    fn an_accepted_duration_is_bounded_and_is_parsed_from_its_text(
        text in prop_oneof![written(), mutated_text(Just("1h 30min")), mutated_text(Just("36500d")), "\\PC{0,12}"],
    ) {
        if let Ok(duration) = text.parse::<ConfigDuration>() {
            // Date arithmetic with it does not overflow a timestamp.
            let end = chrono::DateTime::<chrono::Utc>::UNIX_EPOCH.checked_add_signed(duration.delta());
            prop_assert!(end.is_some_and(|end| end.to_rfc3339().starts_with(['1', '2'])));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration), "{}", duration);
        }
    }

    #[test]
    fn every_duration_is_parsed_from_its_text(nanos in 0..3_000_000_000_000_000_000_u64, whole: bool) {
        let nanos = if whole { nanos - nanos % 1_000_000_000 } else { nanos };
        let text = humantime::format_duration(std::time::Duration::from_nanos(nanos)).to_string();
        let duration: ConfigDuration = text.parse().unwrap();
        prop_assert_eq!(u128::from(nanos), duration.get().as_nanos());
        prop_assert_eq!(duration.to_string().parse(), Ok(duration));
    }

    #[test]
    fn an_accepted_size_is_bounded_and_is_parsed_from_its_text(
        text in prop_oneof![written(), mutated_text(Just("100 MiB")), "\\PC{0,12}"],
    ) {
        if let Ok(size) = text.parse::<ConfigSize>() {
            prop_assert!(i64::try_from(size.bytes()).is_ok());
            prop_assert_eq!(size.to_string().parse(), Ok(size), "{}", size);
        }
    }

    #[test]
    fn every_size_is_parsed_from_its_text(bytes in 0..=i64::MAX as u64, shift in 0..40_u32) {
        let size = ConfigSize::from_bytes(bytes >> shift << shift);
        prop_assert_eq!(size.to_string().parse(), Ok(size), "{}", size);
    }
}
