//! A strict reader of Prometheus's text format, version 0.0.4.

use std::collections::{BTreeMap, BTreeSet};

/// The content of one response of `GET /metrics`.
#[derive(Debug, Default)]
pub struct Scrape {
    /// The kind and the help text of each metric, by name.
    pub families: BTreeMap<String, (String, String)>,
    /// Values by sample name and labels.
    pub samples: BTreeMap<(String, Vec<(String, String)>), f64>,
}

fn is_name(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':');
    starts && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// Parses the labels between the braces. Also returns the text after them.
fn labels(mut text: &str) -> (Vec<(String, String)>, &str) {
    let mut labels = Vec::new();
    loop {
        if let Some(remaining) = text.strip_prefix('}') {
            return (labels, remaining);
        }
        let (name, remaining) =
            text.split_once("=\"").unwrap_or_else(|| panic!("a label in {text}"));
        assert!(is_name(name) && !name.contains(':'), "label {name}");
        let mut value = String::new();
        let mut chars = remaining.char_indices();
        let end = loop {
            let (at, c) = chars.next().unwrap_or_else(|| panic!("an end of {remaining}"));
            match c {
                '"' => break at + 1,
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => value.push('\n'),
                    Some(c @ ('\\' | '"')) => value.push(c),
                    other => panic!("escape {other:?} in {remaining}"),
                },
                c => value.push(c),
            }
        };
        labels.push((name.to_owned(), value));
        text = &remaining[end..];
        text = text.strip_prefix(',').unwrap_or(text);
    }
}

impl Scrape {
    /// Parses a response. Panics if it breaks a rule of the format.
    pub fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line ends");
        let mut scrape = Self::default();
        let mut helps: BTreeMap<String, String> = BTreeMap::new();
        let mut current: Option<String> = None;
        for line in text.lines() {
            if let Some(remaining) = line.strip_prefix("# HELP ") {
                let (name, help) = remaining.split_once(' ').unwrap();
                assert!(helps.insert(name.to_owned(), help.to_owned()).is_none(), "{name} twice");
            } else if let Some(remaining) = line.strip_prefix("# TYPE ") {
                let (name, kind) = remaining.split_once(' ').unwrap();
                assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
                let help = helps.get(name).cloned().unwrap_or_default();
                let known = scrape.families.insert(name.to_owned(), (kind.to_owned(), help));
                assert!(known.is_none(), "{name} twice");
                current = Some(name.to_owned());
            } else if line.starts_with('#') {
                panic!("an odd comment: {line}");
            } else if !line.is_empty() {
                scrape.sample(line, current.as_deref());
            }
        }
        scrape.check_histograms();
        scrape
    }

    fn sample(&mut self, line: &str, family: Option<&str>) {
        let end = line.find(['{', ' ']).unwrap();
        let (name, remaining) = line.split_at(end);
        assert!(is_name(name), "{line}");
        let (labels, remaining) =
            remaining.strip_prefix('{').map_or((Vec::new(), remaining), labels);
        let value = remaining.strip_prefix(' ').unwrap();
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("a number, no time: {line}"));
        assert!(!value.is_nan(), "{line}");
        let family = family.unwrap_or_else(|| panic!("a type before {line}"));
        assert_eq!(self.family_of(name), family, "samples stand below their type: {line}");
        let names: BTreeSet<&str> = labels.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), labels.len(), "a label is there twice: {line}");
        let mut sorted = labels;
        sorted.sort();
        let known = self.samples.insert((name.to_owned(), sorted), value);
        assert!(known.is_none(), "a series is there twice: {line}");
    }

    /// The metric that a sample belongs to.
    pub fn family_of<'a>(&self, name: &'a str) -> &'a str {
        for suffix in ["_bucket", "_sum", "_count"] {
            if let Some(base) = name.strip_suffix(suffix)
                && self.families.get(base).is_some_and(|(kind, _)| kind == "histogram")
            {
                return base;
            }
        }
        name
    }

    fn check_histograms(&self) {
        for (name, (kind, _)) in &self.families {
            let of = |suffix: &str| {
                let sample = format!("{name}{suffix}");
                self.samples.iter().filter(move |((name, _), _)| *name == sample)
            };
            if kind != "histogram" {
                if kind == "counter" {
                    assert!(of("").all(|(_, value)| *value >= 0.0), "{name}");
                }
                continue;
            }
            let mut counted = 0;
            for ((_, labels), count) in of("_count") {
                counted += 1;
                let mut buckets: Vec<(f64, f64)> = of("_bucket")
                    .filter_map(|((_, all), value)| {
                        let (le, remaining): (Vec<_>, Vec<_>) =
                            all.iter().cloned().partition(|(name, _)| name == "le");
                        let le: f64 = le[0].1.parse().unwrap();
                        (remaining == *labels).then_some((le, *value))
                    })
                    .collect();
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{name} is cumulative");
                let last = buckets.last().unwrap();
                assert!(last.0.is_infinite() && (last.1 - count).abs() < 0.5, "{name}");
                let sum = of("_sum").find(|((_, all), _)| all == labels).unwrap().1;
                assert!(*sum >= 0.0, "{name}");
            }
            assert!(counted > 0, "{name} has samples");
        }
    }

    /// The sum over all series of a sample that have these labels.
    pub fn sum(&self, name: &str, having: &[(&str, &str)]) -> f64 {
        let matches = |labels: &Vec<(String, String)>| {
            having.iter().all(|(n, v)| labels.iter().any(|(name, value)| name == n && value == v))
        };
        let of =
            self.samples.iter().filter(|((sample, labels), _)| sample == name && matches(labels));
        of.map(|(_, value)| value).sum()
    }
}

#[test]
fn a_scrape_is_read_with_its_labels() {
    let scrape = Scrape::read(
        "# HELP a_total So many\n# TYPE a_total counter\na_total{x=\"1\\\"\\\\\",y=\"\"} 2\n\
         a_total 3\n\n# TYPE h_seconds histogram\nh_seconds_bucket{le=\"0.5\"} 1\n\
         h_seconds_bucket{le=\"+Inf\"} 2\nh_seconds_sum 3\nh_seconds_count 2\n",
    );
    assert!((scrape.sum("a_total", &[]) - 5.0).abs() < 1e-9);
    assert!((scrape.sum("a_total", &[("x", "1\"\\")]) - 2.0).abs() < 1e-9);
    assert_eq!(scrape.families["a_total"].1, "So many");
}

#[test]
fn text_that_breaks_the_format_is_refused() {
    for bad in [
        "a_total 1\n",
        "# TYPE a_total counter\na_total 1",
        "# TYPE a_total counter\na_total one\n",
        "# TYPE a_total counter\na_total 1\na_total 2\n",
        "# TYPE a_total counter\nb_total 1\n",
        "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n",
    ] {
        assert!(std::panic::catch_unwind(|| Scrape::read(bad)).is_err(), "{bad}");
    }
}
