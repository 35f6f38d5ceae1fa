//! Exif and XMP in each picture format.

use ::exif::experimental::Writer;
use ::exif::{Field, In, Rational, Tag, Value};

use super::*;

/// Exif with an orientation, optionally with coordinates.
fn exif(orientation: u16, has_gps: bool) -> Vec<u8> {
    let field = |tag, value| Field { tag, ifd_num: In::PRIMARY, value };
    let degrees = [48, 8, 0].map(|num| Rational { num, denom: 1 }).to_vec();
    let fields = [
        field(Tag::Orientation, Value::Short(vec![orientation])),
        field(Tag::GPSLatitudeRef, Value::Ascii(vec![b"N".to_vec()])),
        field(Tag::GPSLatitude, Value::Rational(degrees)),
    ];
    let mut writer = Writer::new();
    fields.iter().take(if has_gps { 3 } else { 1 }).for_each(|field| writer.push_field(field));
    let mut bytes = std::io::Cursor::new(Vec::new());
    writer.write(&mut bytes, false).unwrap();
    bytes.into_inner()
}

const XMP: &[u8] = br#"<x:xmpmeta><rdf:Description exif:GPSLatitude="48,8.0N"/></x:xmpmeta>"#;

fn jpeg_with(content: &[u8]) -> Vec<u8> {
    let (start, remaining) = file("picture.jpg").split_at(2);
    let len = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
    [start, &[0xff, 0xe1], &len, content, remaining].concat()
}

fn png_with(kind: &[u8], content: &[u8], at: usize) -> Vec<u8> {
    let (start, remaining) = file("picture.png").split_at(at);
    let len = u32::try_from(content.len()).unwrap().to_be_bytes();
    [start, &len, kind, content, &[0; 4], remaining].concat()
}

fn webp_with(flags: u8, kind: &[u8], content: &[u8]) -> Vec<u8> {
    let chunk = |kind: &[u8], content: &[u8]| {
        let len = u32::try_from(content.len()).unwrap().to_le_bytes();
        [kind, &len, content, &vec![0; content.len() % 2]].concat()
    };
    let header = chunk(b"VP8X", &[flags, 0, 0, 0, 63, 0, 0, 47, 0, 0]);
    let picture = &file("lossy.webp")[12..];
    let body = [&b"WEBP"[..], &header, picture, &chunk(kind, content)].concat();
    chunk(b"RIFF", &body)
}

fn boxed(kind: &[u8], content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len() + 8).unwrap().to_be_bytes();
    [&len, kind, content].concat()
}

/// A HEIF file with a picture of 64 x 48 pixels, rotated by `angle` x 90 degrees, with a thumbnail
/// and a metadata item of this kind.
fn heif(angle: u8, kind: &[u8], metadata: &[u8]) -> Vec<u8> {
    let ftyp = boxed(b"ftyp", b"heic\0\0\0\0mif1heic");
    let size =
        |width: u8, height: u8| boxed(b"ispe", &[0, 0, 0, 0, 0, 0, 0, width, 0, 0, 0, height]);
    let ipco = boxed(b"ipco", &[size(16, 12), size(64, 48), boxed(b"irot", &[angle])].concat());
    // Item 2, the thumbnail, has property 1; item 1 has properties 2 and 3.
    let ipma = boxed(b"ipma", &[0, 0, 0, 0, 0, 0, 0, 2, 0, 2, 1, 1, 0, 1, 2, 0x82, 0x83]);
    let iprp = boxed(b"iprp", &[ipco, ipma].concat());
    let pitm = boxed(b"pitm", &[0, 0, 0, 0, 0, 1]);
    let infe = |item: u8, kind: &[u8]| {
        boxed(b"infe", &[&[2, 0, 0, 0, 0, item, 0, 0][..], kind, b"\0"].concat())
    };
    let entries = [infe(1, b"hvc1"), infe(2, b"hvc1"), infe(3, kind)].concat();
    let iinf = boxed(b"iinf", &[&[0, 0, 0, 0, 0, 3][..], &entries].concat());
    // Version 1, offsets and lengths of 4 bytes; item 3 is in the `idat` box.
    let len = u32::try_from(metadata.len()).unwrap().to_be_bytes();
    let extent = [&[0, 3, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0][..], &len].concat();
    let iloc = boxed(b"iloc", &[&[1, 0, 0, 0, 0x44, 0, 0, 1][..], &extent].concat());
    let idat = boxed(b"idat", metadata);
    let parts = [&[0; 4][..], &pitm, &iinf, &iprp, &iloc, &idat].concat();
    [ftyp, boxed(b"meta", &parts)].concat()
}

fn oriented(bytes: &[u8]) -> (Option<u8>, Option<bool>) {
    let media = media_of(bytes);
    assert_eq!((media.width, media.height), (Some(64), Some(48)));
    (media.orientation, media.has_gps)
}

#[test]
fn exif_is_found_in_each_format() {
    let before = file("picture.png").windows(4).position(|part| part == b"IDAT").unwrap() - 4;
    let end = file("picture.png").len() - 12;
    for (has_gps, turned) in [(true, 6), (false, 3)] {
        let tiff = exif(turned, has_gps);
        let named = [b"Exif\0\0", &tiff[..]].concat();
        for (format, bytes) in [
            ("jpeg", jpeg_with(&named)),
            ("png", png_with(b"eXIf", &tiff, before)),
            ("png, after the picture", png_with(b"eXIf", &tiff, end)),
            ("webp", webp_with(8, b"EXIF", &tiff)),
            ("webp, with a name", webp_with(8, b"EXIF", &named)),
        ] {
            let turned = u8::try_from(turned).ok();
            assert_eq!(oriented(&bytes), (turned, Some(has_gps)), "{format}");
        }
        let item = [&6_u32.to_be_bytes()[..], b"Exif\0\0", &tiff].concat();
        assert_eq!(oriented(&heif(3, b"Exif", &item)), (Some(6), Some(has_gps)), "heif: by irot");
        assert_eq!(oriented(&heif(0, b"Exif", &item)), (Some(1), Some(has_gps)), "heif: upright");
    }
}

#[test]
fn coordinates_are_found_in_xmp() {
    let before = file("picture.png").windows(4).position(|part| part == b"IDAT").unwrap() - 4;
    let named = [b"http://ns.adobe.com/xap/1.0/\0", XMP].concat();
    let text = [b"XML:com.adobe.xmp\0\0\0\0\0", XMP].concat();
    for (format, bytes) in [
        ("jpeg", jpeg_with(&named)),
        ("png", png_with(b"iTXt", &text, before)),
        ("webp", webp_with(4, b"XMP ", XMP)),
        ("gif", [file("picture.gif"), XMP].concat()),
        ("heif", heif(0, b"mime", XMP)),
    ] {
        assert_eq!(oriented(&bytes).1, Some(true), "{format}");
    }
}

#[test]
fn damaged_exif_leaves_the_picture_readable() {
    let tiff = exif(6, true);
    for len in 0..tiff.len() {
        let named = [b"Exif\0\0", &tiff[..len]].concat();
        oriented(&jpeg_with(&named));
    }
}
