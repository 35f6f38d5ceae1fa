//! Reads Azure's XML responses into a small tree. A page of a listing is the largest one.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::storage::{Result, StoreError};

/// No response is nested deeper.
const MAX_DEPTH: usize = 32;

/// An element with its text and its child elements.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Element {
    name: String,
    /// Whether it has the attribute `Encoded="true"`: its text is percent-encoded, because XML
    /// cannot contain it.
    encoded: bool,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// The root element of a document.
    pub(super) fn parse(body: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(body).map_err(|_| broken("it is not UTF-8"))?;
        let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
        let mut open = vec![Self::default()];
        loop {
            let event = reader.read_event().map_err(|_| broken("it is not XML"))?;
            let current = open.last_mut().ok_or_else(|| broken("it has no root"))?;
            match event {
                Event::Start(start) => {
                    let element = Self::new(&start)?;
                    open.push(element);
                    if open.len() > MAX_DEPTH {
                        return Err(broken("it is nested too deeply"));
                    }
                }
                Event::Empty(start) => current.children.push(Self::new(&start)?),
                Event::End(_) => {
                    let closed = open.pop().ok_or_else(|| broken("it has no root"))?;
                    let parent = open.last_mut().ok_or_else(|| broken("it has no root"))?;
                    parent.children.push(closed);
                }
                Event::Text(text) => {
                    let text = text.xml10_content().map_err(|_| broken("it is not UTF-8"))?;
                    current.text.push_str(&text);
                }
                Event::CData(text) => {
                    let text = text.decode().map_err(|_| broken("it is not UTF-8"))?;
                    current.text.push_str(&text);
                }
                Event::GeneralRef(name) => {
                    let known = match name.resolve_char_ref() {
                        Ok(Some(c)) => c,
                        Ok(None) => match &*name {
                            b"amp" => '&',
                            b"lt" => '<',
                            b"gt" => '>',
                            b"quot" => '"',
                            b"apos" => '\'',
                            _ => return Err(broken("it has an unknown entity")),
                        },
                        Err(_) => return Err(broken("it has an invalid character")),
                    };
                    current.text.push(known);
                }
                Event::Eof => break,
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) | Event::DocType(_) => {}
            }
        }
        let mut root = open.pop().filter(|_| open.is_empty());
        root.as_mut().and_then(|root| root.children.pop()).ok_or_else(|| broken("it is cut off"))
    }

    fn new(start: &BytesStart<'_>) -> Result<Self> {
        let name = std::str::from_utf8(start.local_name().into_inner());
        let name = name.map_err(|_| broken("it is not UTF-8"))?.to_owned();
        let encoded = start
            .try_get_attribute("Encoded")
            .is_ok_and(|found| found.is_some_and(|found| &*found.value == b"true"));
        Ok(Self { name, encoded, ..Self::default() })
    }

    /// The first child with this name.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children with this name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first child with this name; `None` if it is missing or empty.
    pub(super) fn text_of(&self, name: &str) -> Option<&str> {
        Some(self.child(name)?.text.as_str()).filter(|text| !text.is_empty())
    }

    /// The decoded text.
    pub(super) fn text(&self) -> Result<String> {
        if !self.encoded {
            return Ok(self.text.clone());
        }
        let decoded = percent_encoding::percent_decode_str(&self.text).decode_utf8();
        Ok(decoded.map_err(|_| broken("a name is not UTF-8"))?.into_owned())
    }
}

fn broken(what: &str) -> StoreError {
    StoreError::Protocol(format!("a response with XML is invalid: {what}"))
}

/// A text with XML's special characters escaped.
pub(super) fn escaped(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mutate::mutated;

    const LISTING: &str = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults \
        ContainerName=\"c\"><Blobs><Blob><Name>a&amp;b &#x41; </Name><Properties><Etag>0x8D\
        </Etag></Properties></Blob><Blob><Name Encoded=\"true\">x%EF%BF%BF</Name></Blob></Blobs>\
        <NextMarker /></EnumerationResults>";

    #[test]
    fn a_listing_is_read_with_its_entities_and_encoded_names() {
        let root = Element::parse(LISTING.as_bytes()).unwrap();
        let blobs: Vec<_> = root.child("Blobs").unwrap().all("Blob").collect();
        assert_eq!(blobs[0].child("Name").unwrap().text().unwrap(), "a&b A ");
        assert_eq!(blobs[0].child("Properties").unwrap().text_of("Etag"), Some("0x8D"));
        assert_eq!(blobs[1].child("Name").unwrap().text().unwrap(), "x\u{ffff}");
        assert_eq!(root.text_of("NextMarker"), None);
    }

    #[test]
    fn an_incomplete_or_invalid_document_is_an_error() {
        for text in ["", "<a>", "<a><b></a>", "text", "<a>&unknown;</a>", "<a>&#0;</a>"] {
            assert!(
                matches!(Element::parse(text.as_bytes()), Err(StoreError::Protocol(_))),
                "{text}"
            );
        }
        assert!(Element::parse(&"<a>".repeat(10_000).into_bytes()).is_err());
        assert!(Element::parse(&[b'<', 0xff]).is_err());
    }

    proptest! {
        #[test]
        fn a_damaged_document_is_read_or_refused(
            body in prop_oneof![mutated(Just(LISTING)), prop::collection::vec(any::<u8>(), 0..60)],
        ) {
            let _ = Element::parse(&body);
        }
    }
}
