//! Formats that are ZIP archives. They are identified by the names of their entries, in any order.

use file_format::FileFormat;

use super::detected::Detected;

const ZIP: &str = "application/zip";

const WORD: &[&str] = &[
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.template",
    "application/vnd.ms-word.document.macroenabled.12",
    "application/vnd.ms-word.template.macroenabled.12",
];
const EXCEL: &[&str] = &[
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.template",
    "application/vnd.ms-excel.sheet.macroenabled.12",
    "application/vnd.ms-excel.sheet.binary.macroenabled.12",
    "application/vnd.ms-excel.template.macroenabled.12",
];
const POWERPOINT: &[&str] = &[
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "application/vnd.openxmlformats-officedocument.presentationml.slideshow",
    "application/vnd.openxmlformats-officedocument.presentationml.template",
    "application/vnd.ms-powerpoint.presentation.macroenabled.12",
    "application/vnd.ms-powerpoint.slideshow.macroenabled.12",
];
const EPUB: &[&str] = &["application/epub+zip"];
const JAVA: &[&str] = &["application/java-archive"];
const ANDROID: &[&str] = &["application/vnd.android.package-archive", "application/java-archive"];
const KMZ: &[&str] = &["application/vnd.google-earth.kmz"];
const MODEL: &[&str] = &["model/3mf"];
/// Formats that are identified by the content of the entry `mimetype`.
const BY_MIMETYPE: &[&str] = &[
    "application/vnd.oasis.opendocument.text",
    "application/vnd.oasis.opendocument.text-template",
    "application/vnd.oasis.opendocument.spreadsheet",
    "application/vnd.oasis.opendocument.spreadsheet-template",
    "application/vnd.oasis.opendocument.presentation",
    "application/vnd.oasis.opendocument.presentation-template",
    "application/vnd.oasis.opendocument.graphics",
    "application/vnd.oasis.opendocument.graphics-template",
    "image/openraster",
];
/// All ZIP formats: those above, and others that are not identified by an entry.
const ALL: &[&[&str]] = &[
    WORD,
    EXCEL,
    POWERPOINT,
    EPUB,
    JAVA,
    ANDROID,
    KMZ,
    MODEL,
    BY_MIMETYPE,
    &["application/vnd.ms-xpsdocument", "application/oxps", "model/vnd.usdz+zip"],
];

/// Whether a type is a ZIP archive.
pub(super) fn knows(media_type: &str) -> bool {
    media_type == ZIP || ALL.iter().any(|names| names.contains(&media_type))
}

pub(super) fn detect(head: &[u8]) -> Option<Detected> {
    if !head.starts_with(LOCAL_HEADER) {
        return None;
    }
    let mut office = false;
    let mut entries = Entries { head, next: Some(0), complete: false };
    for entry in entries.by_ref() {
        let name = entry.name;
        if let Some(named) = (name == b"mimetype").then(|| named_by(entry.stored)).flatten() {
            return Some(archive([named]));
        }
        let found = match name {
            b"META-INF/container.xml" => Some(EPUB),
            b"META-INF/MANIFEST.MF" => Some(JAVA),
            b"AndroidManifest.xml" => Some(ANDROID),
            b"doc.kml" => Some(KMZ),
            _ if name.starts_with(b"word/") => Some(WORD),
            _ if name.starts_with(b"xl/") => Some(EXCEL),
            _ if name.starts_with(b"ppt/") => Some(POWERPOINT),
            _ if name.starts_with(b"3D/") => Some(MODEL),
            _ => None,
        };
        if let Some(names) = found {
            return Some(archive(names.iter().copied()));
        }
        office |= name == b"[Content_Types].xml";
    }
    Some(match (entries.complete, office) {
        // The entries that identify the format are after the bytes that were read.
        (false, true) => archive([WORD, EXCEL, POWERPOINT, MODEL].concat()),
        (false, false) => Detected::new([&[ZIP], &*ALL.concat()].concat()).with_suffix("+zip"),
        (true, _) => Detected::new([ZIP]),
    })
}

/// The file is a ZIP archive in any case, so it also fits `application/zip`.
fn archive(names: impl IntoIterator<Item = &'static str>) -> Detected {
    Detected::new(names.into_iter().chain([ZIP]).collect::<Vec<_>>())
}

/// The format that the content of the entry `mimetype` names.
fn named_by(content: Option<&[u8]>) -> Option<&'static str> {
    let name = std::str::from_utf8(content?).ok()?.trim();
    let known = BY_MIMETYPE.iter().chain(EPUB).copied().find(|known| *known == name);
    known.or_else(|| Some(FileFormat::from_media_type(name).first()?.media_type()))
}

const LOCAL_HEADER: &[u8] = b"PK\x03\x04";
/// APPNOTE.TXT, 4.3.7: the length of a local file header without name and extra field.
const HEADER_LEN: usize = 30;
/// APPNOTE.TXT, 4.4.4: the flag of an entry whose sizes follow its data. The next header must then
/// be searched for.
const SIZES_FOLLOW: u16 = 1 << 3;

struct Entry<'a> {
    name: &'a [u8],
    /// The content of the entry, if it is stored without compression and was read completely.
    stored: Option<&'a [u8]>,
}

/// The entries whose headers were read.
struct Entries<'a> {
    head: &'a [u8],
    next: Option<usize>,
    /// Whether all entries were read.
    complete: bool,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let header = self.head.get(self.next.take()?..)?;
        let signature = header.get(..4)?;
        if signature != LOCAL_HEADER {
            // The central directory begins, or the archive is damaged.
            self.complete = signature.starts_with(b"PK");
            return None;
        }
        let u16_at =
            |at: usize| header.get(at..at + 2)?.first_chunk().map(|b| u16::from_le_bytes(*b));
        let size = u32::from_le_bytes(*header.get(18..22)?.first_chunk()?);
        let (flags, method) = (u16_at(6)?, u16_at(8)?);
        let name_end = HEADER_LEN + usize::from(u16_at(26)?);
        let name = header.get(HEADER_LEN..name_end)?;
        let start = name_end + usize::from(u16_at(28)?);
        let end = start.checked_add(usize::try_from(size).ok()?)?;
        let here = self.head.len() - header.len();
        let known = flags & SIZES_FOLLOW == 0 && size != u32::MAX;
        self.next = if known {
            Some(here + end)
        } else {
            let data = header.get(start..)?;
            let next =
                data.windows(4).position(|four| matches!(four, b"PK\x03\x04" | b"PK\x01\x02"));
            next.map(|at| here + start + at)
        };
        let stored = (known && method == 0).then(|| header.get(start..end)).flatten();
        Some(Entry { name, stored })
    }
}
