//! What inspectors found out about a file.

use serde::Serialize;
use utoipa::ToSchema;

use super::MediaKindName;
use crate::domain::inspection::{Annotation, Annotations, InspectorName, MEDIA};

/// What inspectors found out about a file, by inspector. The members of other inspectors than
/// `media` are what these returned.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Annotations)]
pub struct AnnotationsView {
    /// What the headers of the file say.
    #[schema(nullable = false, value_type = Option<MediaView>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<Annotation>,
    /// Of the other inspectors.
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

/// What the headers of an audio file, an image or a video say. Members that are unknown are left
/// out.
#[derive(Debug, ToSchema)]
#[schema(as = Media)]
pub struct MediaView {
    /// `audio`, `image` or `video`. A video with sound only is audio.
    #[schema(nullable = false, value_type = Option<MediaKindName>)]
    pub kind: Option<String>,
    /// The format of the file.
    #[schema(nullable = false, example = "mp3")]
    pub container: Option<String>,
    /// The codec of the sound, or of the pictures of a video.
    #[schema(nullable = false, example = "mp3")]
    pub codec: Option<String>,
    /// The duration in seconds.
    #[schema(nullable = false, example = 187.532)]
    pub duration_seconds: Option<f64>,
    /// Of the sound, or of the whole file of a video, in bits per second.
    #[schema(nullable = false, example = 192_000)]
    pub bitrate: Option<u64>,
    /// Samples of the sound per second.
    #[schema(nullable = false, example = 44_100)]
    pub sample_rate: Option<u64>,
    /// Channels of the sound.
    #[schema(nullable = false, example = 2)]
    pub channels: Option<u16>,
    /// In pixels, as stored: before the orientation is applied.
    #[schema(nullable = false)]
    pub width: Option<u64>,
    /// In pixels, as stored: before the orientation is applied.
    #[schema(nullable = false)]
    pub height: Option<u64>,
    /// How the picture must be turned for display, as in Exif: 1 (upright) to 8.
    #[schema(nullable = false)]
    pub orientation: Option<u8>,
    /// Whether the file contains the coordinates of a place.
    #[schema(nullable = false)]
    pub has_gps: Option<bool>,
    /// The tags of an audio file.
    #[schema(nullable = false)]
    pub tags: Option<TagsView>,
    /// Why the headers could not be read, or not all of them.
    #[schema(
        nullable = false,
        example = "File cannot be read: the file is damaged: it ends early"
    )]
    pub unscannable: Option<String>,
    /// Why nothing was read: it took too long.
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
    fn every_fact_is_documented() {
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
        // In place of facts, or beside them.
        facts.extend(["unscannable".to_owned(), "error".to_owned()]);
        assert_eq!(facts, documented::<MediaView>());
    }
}
