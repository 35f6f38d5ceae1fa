//! Inspects arbitrary bytes with the parsers of the inspector `media`. They must not panic, and
//! must stay within the limits for reads. The fuzzer itself checks the time and the memory.

#![no_main]

use libfuzzer_sys::fuzz_target;
use upload_coordinator_fuzz::domain::media::{
    HEAD_LEN, Inspected, Kind, MAX_READ_BYTES, MAX_READS, MAX_TEXT, Parts, Step, Unscannable,
    inspect,
};

fuzz_target!(
    // The fuzzer's panic hook ends the process, even if the panic is caught, as panics of `lofty`
    // are. This hook does not. A panic that is not caught still ends the process.
    init: std::panic::set_hook(Box::new(|panic| {
        if panic.location().is_some_and(|at| at.file().contains("fuzz_targets")) {
            eprintln!("{panic}");
        }
    })),
    |input: &[u8]| {
        // The last byte of the file chooses the length of the first part. So an input is a plain
        // file, and the corpus can be real files.
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
    // `lofty` panics if a calculation overflows, and `inspect` catches this. No other parser panics.
    assert!(!panicked || media.kind == Kind::Audio, "{media:?}");
    let tags = &media.tags;
    for text in [&tags.title, &tags.artist, &tags.album, &media.codec].into_iter().flatten() {
        assert!(text.chars().count() <= MAX_TEXT && !text.contains(char::is_control));
    }
    assert!(media.duration_seconds.is_none_or(|it| it.is_finite() && it > 0.0));
    assert!(media.orientation.is_none_or(|it| (1..=8).contains(&it)));
    serde_json::to_string(media).expect("JSON");
}
