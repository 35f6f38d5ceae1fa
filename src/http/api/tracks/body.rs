//! Request bodies for tracks.

use chrono::NaiveDate;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::db::tracks::TrackFields;
use crate::domain::policy::FieldErrors;
use crate::http::extract::json::Patch;
use crate::http::extract::text::{self, NOT_NULL, REQUIRED, record_error};

/// All fields of a track.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"title": "Blue in Green", "artist_name": "Miles Davis",
    "release_date": "1959-08-17"}))]
pub struct NewTrack {
    /// 1 to 100 characters, not blank.
    #[serde(default)]
    #[schema(required, value_type = String, min_length = 1, max_length = 100)]
    title: Option<String>,
    /// 1 to 100 characters, not blank.
    #[serde(default)]
    #[schema(required, value_type = String, min_length = 1, max_length = 100)]
    artist_name: Option<String>,
    /// `YYYY-MM-DD`.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Date)]
    release_date: Option<String>,
}

impl TryFrom<NewTrack> for TrackFields {
    type Error = FieldErrors;

    fn try_from(track: NewTrack) -> Result<Self, FieldErrors> {
        let NewTrack { title, artist_name, release_date } = track;
        let mut errors = FieldErrors::default();
        let required = |text: Option<String>| text.ok_or(REQUIRED.to_owned()).and_then(text::name);
        let title = record_error(required(title), "title", &mut errors);
        let artist_name = record_error(required(artist_name), "artist_name", &mut errors);
        let release_date = release_date.map(|text| text::date(&text)).transpose();
        let release_date = record_error(release_date, "release_date", &mut errors);
        match (title, artist_name, release_date) {
            (Some(title), Some(artist_name), Some(release_date)) => {
                Ok(Self { title, artist_name, release_date })
            }
            _ => Err(errors),
        }
    }
}

/// Some fields of a track. An absent field does not change; null clears a field.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"release_date": null}))]
pub struct TrackPatch {
    /// 1 to 100 characters, not blank.
    #[serde(default)]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 100)]
    title: Patch<String>,
    /// 1 to 100 characters, not blank.
    #[serde(default)]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 100)]
    artist_name: Patch<String>,
    /// `YYYY-MM-DD`. Null clears the date.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Date)]
    release_date: Patch<String>,
}

/// Changes of a track.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TrackChanges {
    title: Option<String>,
    artist_name: Option<String>,
    release_date: Patch<NaiveDate>,
}

impl TrackChanges {
    /// The fields after the changes.
    pub fn apply(&self, fields: TrackFields) -> TrackFields {
        let TrackFields { title, artist_name, release_date } = fields;
        TrackFields {
            title: self.title.clone().unwrap_or(title),
            artist_name: self.artist_name.clone().unwrap_or(artist_name),
            release_date: match self.release_date {
                Patch::Absent => release_date,
                Patch::Null => None,
                Patch::Value(date) => Some(date),
            },
        }
    }
}

impl TryFrom<TrackPatch> for TrackChanges {
    type Error = FieldErrors;

    fn try_from(patch: TrackPatch) -> Result<Self, FieldErrors> {
        let TrackPatch { title, artist_name, release_date } = patch;
        let mut errors = FieldErrors::default();
        let mut name = |text: Patch<String>, field| match text {
            Patch::Absent => None,
            Patch::Null => record_error(Err(NOT_NULL.to_owned()), field, &mut errors),
            Patch::Value(text) => record_error(text::name(text), field, &mut errors),
        };
        let (title, artist_name) = (name(title, "title"), name(artist_name, "artist_name"));
        let date = release_date.try_map(|text| text::date(&text));
        let release_date = record_error(date, "release_date", &mut errors).unwrap_or_default();
        errors.into_result()?;
        Ok(Self { title, artist_name, release_date })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::extract::json::parse;

    fn patch(text: &str) -> Result<TrackChanges, FieldErrors> {
        parse::<TrackPatch>(text.as_bytes()).unwrap().try_into()
    }

    #[test]
    fn a_patch_distinguishes_null_from_absent() {
        let date = NaiveDate::from_ymd_opt(2026, 1, 31);
        let fields = TrackFields { title: "t".into(), artist_name: "a".into(), release_date: date };
        assert_eq!(patch("{}").unwrap().apply(fields.clone()), fields);
        let cleared = patch(r#"{"release_date": null}"#).unwrap().apply(fields.clone());
        assert_eq!(cleared, TrackFields { release_date: None, ..fields.clone() });
        let renamed = patch(r#"{"title": "u"}"#).unwrap().apply(fields.clone());
        assert_eq!(renamed, TrackFields { title: "u".into(), ..fields });
        assert_eq!(patch(r#"{"title": null}"#), Err(FieldErrors::one("title", NOT_NULL)));
    }

    #[test]
    fn one_error_names_every_invalid_field() {
        let track = parse::<NewTrack>(br#"{"artist_name": " ", "release_date": "x"}"#).unwrap();
        let errors = TrackFields::try_from(track).unwrap_err();
        let fields: Vec<_> = errors.0.keys().map(String::as_str).collect();
        assert_eq!(fields, ["artist_name", "release_date", "title"]);
    }
}
