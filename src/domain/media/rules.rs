//! The rules of a policy for media files.
//!
//! To add a rule, add a field to [`MediaRules`], a line to [`MediaRules::check`], and the key to
//! `src/config/policies.rs`.

use chrono::TimeDelta;

use super::facts::{Inspected, Kind, Media};

/// The requirements of a policy for media files. A rule applies only to files that can have the
/// fact: a picture has no duration.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct MediaRules {
    /// The maximum duration of a sound or video.
    pub max_duration: Option<TimeDelta>,
    /// The minimum duration of a sound or video.
    pub min_duration: Option<TimeDelta>,
    /// The maximum number of pixels (width times height) of a picture or a video.
    pub max_pixels: Option<u64>,
    /// Whether files with coordinates are rejected.
    pub reject_gps: bool,
}

/// The result of the rules for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It breaks no rule.
    Accept,
    /// It breaks a rule. The sentence contains the value and the limit.
    Reject(String),
    /// The file, or a fact that a rule needs, could not be read. The sentence contains the reason.
    Unscannable(String),
}

impl MediaRules {
    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks an inspected file. Known facts of a damaged file are checked, too.
    pub fn check(&self, inspected: &Inspected) -> Finding {
        let Inspected { media, problem } = inspected;
        let media = media.as_ref();
        if let Some(sentence) = media.and_then(|media| self.broken(media)) {
            return Finding::Reject(sentence);
        }
        if let Some(problem) = problem {
            return Finding::Unscannable(format!("File cannot be read: {problem}"));
        }
        match media.and_then(|media| self.unknown(media)) {
            Some(fact) => Finding::Unscannable(format!("File does not declare its {fact}")),
            None => Finding::Accept,
        }
    }

    /// Returns the sentence about the first rule that the file breaks.
    fn broken(&self, media: &Media) -> Option<String> {
        if let (Some(lasts), Some(limit)) = (media.duration_seconds, self.max_duration) {
            let limit = limit.as_seconds_f64();
            if lasts > limit {
                return Some(format!("File lasts {lasts} s, longer than max_duration={limit}s"));
            }
        }
        if let (Some(lasts), Some(limit)) = (media.duration_seconds, self.min_duration) {
            let limit = limit.as_seconds_f64();
            if lasts < limit {
                return Some(format!("File lasts {lasts} s, shorter than min_duration={limit}s"));
            }
        }
        if let (Some(pixels), Some(limit)) = (media.pixels(), self.max_pixels)
            && pixels > limit
        {
            let (width, height) = (media.width?, media.height?);
            return Some(format!(
                "File has {width} x {height} = {pixels} pixels, more than max_pixels={limit}"
            ));
        }
        if self.reject_gps && media.has_gps == Some(true) {
            let sentence = "File contains GPS coordinates, which reject_gps=true forbids; remove \
                            them";
            return Some(sentence.to_owned());
        }
        None
    }

    /// The first missing fact that a rule needs.
    fn unknown(&self, media: &Media) -> Option<&'static str> {
        let has_duration = media.kind != Kind::Image;
        let has_pixels = media.kind != Kind::Audio;
        let limits_duration = self.max_duration.is_some() || self.min_duration.is_some();
        if has_duration && limits_duration && media.duration_seconds.is_none() {
            Some("duration")
        } else if has_pixels && self.max_pixels.is_some() && media.pixels().is_none() {
            Some("width and height")
        } else {
            None
        }
    }
}
