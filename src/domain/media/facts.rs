//! The result of an inspection.

use serde::Serialize;

/// The maximum length of a text from a tag, in characters. Longer texts are truncated.
pub const MAX_TEXT: usize = 200;

/// The kind of a media file.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Sound without a video track.
    #[default]
    Audio,
    /// A picture.
    Image,
    /// At least one video track.
    Video,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Audio, Self::Image, Self::Video];

    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Image => "image",
            Self::Video => "video",
        }
    }
}

/// The tags of an audio file. Unknown members are omitted.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Tags {
    /// The title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The artist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artist: Option<String>,
    /// The album.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub album: Option<String>,
    /// The track number on the album.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track: Option<u32>,
    /// The year of the release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub year: Option<u16>,
}

impl Tags {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The facts from the headers of a file. Unknown members are omitted.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Media {
    /// Audio, image or video.
    pub kind: Kind,
    /// The format of the file, for example `mp3`, `mp4` or `png`.
    pub container: &'static str,
    /// The codec of the sound, or of the pictures of a video, for example `aac` or `h264`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// The duration in seconds, rounded to milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// The bitrate of the sound, or of the whole file of a video, in bits per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bitrate: Option<u64>,
    /// The sample rate of the sound, in Hz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<u32>,
    /// The number of channels of the sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<u16>,
    /// The width in pixels, before the orientation is applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// The height in pixels, before the orientation is applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// How to turn the picture for display: 1 to 8, as in Exif.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orientation: Option<u8>,
    /// Whether the file contains the coordinates of a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has_gps: Option<bool>,
    /// The tags.
    #[serde(skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

impl Media {
    /// The number of pixels of a picture.
    pub fn pixels(&self) -> Option<u64> {
        Some(u64::from(self.width?) * u64::from(self.height?))
    }

    /// Sets the duration. Ignores impossible durations, and durations below a millisecond.
    pub(super) fn set_duration(&mut self, seconds: f64) {
        let rounded = (seconds * 1000.0).round() / 1000.0;
        self.duration_seconds = Some(rounded).filter(|it| (0.001..1e9).contains(it));
    }

    pub(super) fn set_size(&mut self, width: u32, height: u32) {
        if width > 0 && height > 0 {
            (self.width, self.height) = (Some(width), Some(height));
        }
    }

    pub(super) fn set_orientation(&mut self, orientation: u32) {
        self.orientation = u8::try_from(orientation).ok().filter(|it| (1..=8).contains(it));
    }

    /// Sets the bitrate of the whole file if no more precise one is known. `size` is in bytes.
    pub(super) fn estimate_bitrate(&mut self, size: u64) {
        if let (None, Some(seconds)) = (self.bitrate, self.duration_seconds) {
            // The result is an estimate, so the casts lose no precision that matters.
            #[expect(clippy::cast_precision_loss)]
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let bits = (size as f64 * 8.0 / seconds).round() as u64;
            self.bitrate = Some(bits);
        }
    }
}

/// Why some or all headers of a file could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unscannable {
    /// A format of audio, video or images that is not supported.
    #[error("the format {0} is not supported")]
    Unsupported(&'static str),
    /// The headers contradict the format.
    #[error("the file is damaged: {0}")]
    Damaged(String),
    /// The headers are spread over more than [`super::MAX_READS`] parts of the file, or a tag has
    /// too many frames.
    #[error("its headers are too large")]
    TooLarge,
    /// A parser panicked.
    #[error("the parser failed")]
    Panicked,
}

/// The result of an inspection.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspected {
    /// The known facts, even if the file could be read only in part. `None` if the file is not
    /// audio, video or an image, or if nothing is known.
    pub media: Option<Media>,
    /// Why some facts are missing.
    pub problem: Option<Unscannable>,
}

/// A step of an inspection.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Read this range, add it to the parts, and call again.
    Read(std::ops::Range<u64>),
    /// The inspection is complete.
    Done(Inspected),
}

/// Cleans a text from a file: removes control characters, which databases and terminals do not
/// accept, and keeps at most [`MAX_TEXT`] characters.
pub(super) fn clean_text(text: &str) -> Option<String> {
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let clean: String = visible.take(MAX_TEXT * 2).collect();
    let clean: String = clean.trim().chars().take(MAX_TEXT).collect();
    let clean = clean.trim_end();
    (!clean.is_empty()).then(|| clean.to_owned())
}
