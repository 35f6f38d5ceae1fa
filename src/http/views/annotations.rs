//! The results of inspectors about a file.

use serde::Serialize;
use utoipa::ToSchema;

use super::MediaKindName;
use crate::domain::inspection::{Annotation, Annotations, InspectorName, MEDIA};

/// The results of inspectors about a file. Each member is the result of one inspector. The service
/// defines the members of `media`, and every other inspector defines its own.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Annotations)]
pub struct AnnotationsView {
    /// The result of the built-in inspector `media`: properties from the headers of the file.
    #[schema(nullable = false, value_type = Option<MediaView>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<Annotation>,
    /// The results of the other inspectors.
    #[schema(value_type = std::collections::BTreeMap<String, Object>)]
    #[serde(flatten)]
    pub others: Annotations,
}

impl From<Annotations> for AnnotationsView {
    fn from(mut annotations: Annotations) -> Self {
        let media = annotations.remove(&InspectorName::new(MEDIA));
        Self { media, others: annotations }
    }
}

/// Properties of an audio file, an image or a video, from its headers. Members whose value is not
/// known are omitted.
#[derive(Debug, ToSchema)]
#[schema(as = Media)]
pub struct MediaView {
    /// `audio`, `image` or `video`. A video with sound only is audio.
    #[schema(nullable = false, value_type = Option<MediaKindName>)]
    pub kind: Option<String>,
    /// The format of the file.
    #[schema(nullable = false, example = "mp3")]
    pub container: Option<String>,
    /// The codec of an audio file, or the video codec of a video.
    #[schema(nullable = false, example = "mp3")]
    pub codec: Option<String>,
    /// The duration in seconds.
    #[schema(nullable = false, example = 187.532)]
    pub duration_seconds: Option<f64>,
    /// The bit rate of the sound, or of the whole file if it is a video, in bits per second.
    #[schema(nullable = false, example = 192_000)]
    pub bitrate: Option<u64>,
    /// The sample rate of the sound, in samples per second.
    #[schema(nullable = false, example = 44_100)]
    pub sample_rate: Option<u64>,
    /// The number of channels of the sound.
    #[schema(nullable = false, example = 2)]
    pub channels: Option<u16>,
    /// The width in pixels, before the orientation is applied.
    #[schema(nullable = false)]
    pub width: Option<u64>,
    /// The height in pixels, before the orientation is applied.
    #[schema(nullable = false)]
    pub height: Option<u64>,
    /// How to rotate or mirror the picture for display: the orientation of Exif, 1 (upright) to 8.
    #[schema(nullable = false)]
    pub orientation: Option<u8>,
    /// Whether the file contains GPS coordinates.
    #[schema(nullable = false)]
    pub has_gps: Option<bool>,
    /// The tags of an audio file.
    #[schema(nullable = false)]
    pub tags: Option<TagsView>,
    /// Why the headers could not be read completely.
    #[schema(
        nullable = false,
        example = "File cannot be read: the file is damaged: it ends early"
    )]
    pub unscannable: Option<String>,
    /// Why the file was not inspected: reading it took too long.
    #[schema(nullable = false)]
    pub error: Option<String>,
}

/// The tags of an audio file.
#[derive(Debug, ToSchema)]
#[schema(as = MediaTags)]
pub struct TagsView {
    /// The title.
    #[schema(nullable = false, example = "Blue in Green")]
    pub title: Option<String>,
    /// The artist.
    #[schema(nullable = false, example = "Miles Davis")]
    pub artist: Option<String>,
    /// The album.
    #[schema(nullable = false, example = "Kind of Blue")]
    pub album: Option<String>,
    /// The number on the album.
    #[schema(nullable = false)]
    pub track: Option<u64>,
    /// The year of the release.
    #[schema(nullable = false)]
    pub year: Option<u16>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;
    use utoipa::PartialSchema;

    use super::*;
    use crate::domain::media::{Kind, Media, Tags};

    fn members(of: &Value) -> BTreeSet<String> {
        of.as_object().unwrap().keys().cloned().collect()
    }

    fn documented<T: PartialSchema>() -> BTreeSet<String> {
        members(&serde_json::to_value(T::schema()).unwrap()["properties"])
    }

    #[test]
    fn every_member_is_documented() {
        let tags = Tags {
            title: Some("a".into()),
            artist: Some("a".into()),
            album: Some("a".into()),
            track: Some(1),
            year: Some(1),
        };
        let media = Media {
            kind: Kind::Audio,
            container: "mp3",
            codec: Some("mp3".into()),
            duration_seconds: Some(1.0),
            bitrate: Some(1),
            sample_rate: Some(1),
            channels: Some(1),
            width: Some(1),
            height: Some(1),
            orientation: Some(1),
            has_gps: Some(true),
            tags,
        };
        let facts = serde_json::to_value(media).unwrap();
        assert_eq!(members(&facts["tags"]), documented::<TagsView>());
        let mut facts = members(&facts);
        // The inspector adds these two members itself.
        facts.extend(["unscannable".to_owned(), "error".to_owned()]);
        assert_eq!(facts, documented::<MediaView>());
    }
}
