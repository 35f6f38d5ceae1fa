//! The inspector `media` with any file. It must not panic, and must keep the limits of its reads.
//! The fuzzer itself checks the time and the memory.

#![no_main]

use libfuzzer_sys::fuzz_target;
use upload_coordinator_fuzz::domain::media::{
    HEAD_LEN, Inspected, Kind, MAX_READ_BYTES, MAX_READS, MAX_TEXT, Parts, Step, Unscannable,
    inspect,
};

fuzz_target!(
    // The hook of the fuzzer would end the process at a panic of `lofty`, which is caught. A panic
    // that is not caught ends it.
    init: std::panic::set_hook(Box::new(|panic| {
        if panic.location().is_some_and(|at| at.file().contains("fuzz_targets")) {
            eprintln!("{panic}");
        }
    })),
    |input: &[u8]| {
        // The last byte decides how much of the file is in its first part. So the corpus can be
        // files.
        let head = match input.last() {
            Some(last) if *last >= 128 => 64 << (last % 7),
            _ => HEAD_LEN as usize,
        };
        check(&run(input, head));
    }
);

fn run(file: &[u8], head: usize) -> Inspected {
    let size = file.len() as u64;
    let mut parts = Parts::new(size, file[..file.len().min(head)].to_vec().into());
    let mut read = 0;
    loop {
        match inspect(&parts) {
            Step::Done(inspected) => {
                assert!(parts.reads() <= MAX_READS && read <= MAX_READ_BYTES);
                return inspected;
            }
            Step::Read(range) => {
                assert!(!range.is_empty() && range.end <= size, "{range:?} of {size}");
                read += range.end - range.start;
                let bytes = file[range.start as usize..range.end as usize].to_vec();
                parts.add(range.start, bytes.into());
            }
        }
    }
}

fn check(found: &Inspected) {
    let Some(media) = &found.media else { return };
    let panicked = found.problem == Some(Unscannable::Panicked);
    // `lofty` calculates with numbers that overflow, which is caught.
    assert!(!panicked || media.kind == Kind::Audio, "{media:?}");
    let tags = &media.tags;
    for text in [&tags.title, &tags.artist, &tags.album, &media.codec].into_iter().flatten() {
        assert!(text.chars().count() <= MAX_TEXT && !text.contains(char::is_control));
    }
    assert!(media.duration_seconds.is_none_or(|it| it.is_finite() && it > 0.0));
    assert!(media.orientation.is_none_or(|it| (1..=8).contains(&it)));
    serde_json::to_string(media).expect("JSON");
}
